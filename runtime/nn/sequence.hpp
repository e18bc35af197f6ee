#pragma once
#include "runtime/nn/module.hpp"

namespace plasmid {

// Layers of one shape, each reading what the one before wrote.  x, y one shape, f32. With Keep::all it keeps the input
// of every layer but the first, and what the layers keep; with less, only the latter. Layer i of n sees RngKey::layer =
// n * (the Sequence's own) + i.
class Sequence final : public Module {
 public:
  explicit Sequence(std::vector<std::unique_ptr<Module>> layers);  // at least one
  using Module::backward;
  using Module::cost;
  using Module::forward;
  std::vector<TensorSpec> outputs(std::span<const TensorSpec> in) const override;
  Cost cost(std::span<const TensorSpec> in, Keep) const override;
  void parameters(const ParameterVisitor&) override;
  SavedPtr forward(Context&, Keep, std::span<const ConstView> x, std::span<const View> y, const Saved* replay) override;
  void backward(Context&, SavedPtr, std::span<const ConstView> x, std::span<const ConstView> dy,
                std::span<const Gradient> dx) override;

 private:
  std::vector<std::unique_ptr<Module>> layers_;
};

}  // namespace plasmid
