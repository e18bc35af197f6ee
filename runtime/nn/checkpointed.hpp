#pragma once
#include "runtime/nn/module.hpp"

namespace plasmid {

// Trades time for memory: forward keeps only what `level` says (Keep::nothing, or Keep::core: the attention's result),
// backward runs the inner forward again, reusing that, into scratch memory.
class Checkpointed final : public Module {
 public:
  Checkpointed(std::unique_ptr<Module> inner, Keep level);
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
  Keep level_;
};

}  // namespace plasmid
