#include "parallel/mesh/process_mesh.hpp"

#include <string>

#include "runtime/base/error.hpp"

namespace plasmid {
namespace {

constexpr unsigned kAll = axes::dp | axes::cp | axes::tp;

void check(const Degrees& degrees, int ranks) {
  const Index product = Index{degrees.dp} * degrees.cp * degrees.tp;
  const bool positive = degrees.dp >= 1 && degrees.cp >= 1 && degrees.tp >= 1;
  if (positive && product == ranks) return;
  const std::string text = "mesh: dp " + std::to_string(degrees.dp) + " x cp " + std::to_string(degrees.cp) + " x tp " +
                           std::to_string(degrees.tp);
  if (!positive) throw Error(ErrorCode::config, text + ": each degree must be at least 1");
  throw Error(ErrorCode::config, text + " = " + std::to_string(product) + ", but the job has " + std::to_string(ranks) +
                                     (ranks == 1 ? " rank" : " ranks"));
}

}  // namespace

ProcessMesh::ProcessMesh(Communicator& world, Degrees degrees) : world_(world), degrees_(degrees) {
  check(degrees, world.size());
  // Every group is made here, in one order on all ranks: made on first use, two ranks could ask in different orders.
  for (unsigned mask = 0; mask <= kAll; ++mask) {
    int color = 0;  // ranks with equal coordinates off the mask are one group
    if (!(mask & axes::dp)) color = coordinate(axes::dp);
    if (!(mask & axes::cp)) color = color * degrees.cp + coordinate(axes::cp);
    if (!(mask & axes::tp)) color = color * degrees.tp + coordinate(axes::tp);
    groups_.emplace(mask, world.split(color, world.rank()));
  }
}

Communicator& ProcessMesh::along(unsigned axes_mask) {
  const auto group = groups_.find(axes_mask);
  PLASMID_CHECK(group != groups_.end()) << "axes " << axes_mask;
  return *group->second;
}

int ProcessMesh::coordinate(unsigned axis) const {
  const int rank = world_.rank();
  switch (axis) {
    case axes::tp:
      return rank % degrees_.tp;
    case axes::cp:
      return rank / degrees_.tp % degrees_.cp;
    case axes::dp:
      return rank / degrees_.tp / degrees_.cp;
    default:
      PLASMID_CHECK(false) << "axes " << axis << " are not one axis";
      return 0;
  }
}

}  // namespace plasmid
