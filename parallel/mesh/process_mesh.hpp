#pragma once
#include <map>
#include <memory>

#include "parallel/comm/communicator.hpp"
#include "runtime/nn/parameter.hpp"

namespace plasmid {

struct Degrees {
  int dp = 1, cp = 1, tp = 1;
};

// Ranks laid out as rank = (dp * CP + cp) * TP + tp, so that neighbours along tp, then cp, share a node.
class ProcessMesh {
 public:
  // Collective over `world`, which is borrowed and outlives the mesh. Throws Error{config} with the arithmetic unless
  // dp * cp * tp == world.size() and each is at least 1.
  ProcessMesh(Communicator& world, Degrees);

  const Degrees& degrees() const { return degrees_; }
  Communicator& world() { return world_; }
  // The ranks that differ from this one along these axes only (bits of `axes`): along(axes::cp) is the ring,
  // along(axes::tokens) reduces gradients. Ordered by rank. Valid as long as the mesh.
  Communicator& along(unsigned axes_mask);
  int coordinate(unsigned axis) const;  // one bit

 private:
  Communicator& world_;
  Degrees degrees_;
  std::map<unsigned, std::unique_ptr<Communicator>> groups_;
};

}  // namespace plasmid
