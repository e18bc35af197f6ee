#pragma once
#include "runtime/nn/module.hpp"

namespace plasmid {

// A module that treats every token alone, applied to `tile` tokens at a time, so that its temporaries are a tile long.
// x, y [tokens, ...]; the inner module sees the map of its tile (TokenPart).
class Tiled final : public Module {
 public:
  Tiled(std::unique_ptr<Module> inner, Index tile);
  using Module::backward;
  using Module::cost;
  using Module::forward;
  std::vector<TensorSpec> outputs(std::span<const TensorSpec> in) const override { return inner_->outputs(in); }
  Cost cost(std::span<const TensorSpec> in, Keep) const override;
  void parameters(const ParameterVisitor& visitor) override { inner_->parameters(visitor); }
  SavedPtr forward(Context&, Keep, std::span<const ConstView> x, std::span<const View> y, const Saved* replay) override;
  void backward(Context&, SavedPtr, std::span<const ConstView> x, std::span<const ConstView> dy,
                std::span<const Gradient> dx) override;

 private:
  std::unique_ptr<Module> inner_;
  Index tile_;
};

}  // namespace plasmid
