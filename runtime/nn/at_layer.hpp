#pragma once
#include "runtime/nn/module.hpp"

namespace plasmid {

// The coordinate of layer `layer` of `layers` among those of every container around it (RngKey::layer), while this
// lives.
class AtLayer {
 public:
  AtLayer(Context& context, std::size_t layer, std::size_t layers) : context_(context), around_(context.rng.layer) {
    context_.rng.layer = around_ * layers + layer;
  }
  AtLayer(const AtLayer&) = delete;
  AtLayer& operator=(const AtLayer&) = delete;
  ~AtLayer() { context_.rng.layer = around_; }

 private:
  Context& context_;
  std::uint64_t around_;
};

}  // namespace plasmid
