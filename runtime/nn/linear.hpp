#pragma once
#include "runtime/nn/affine.hpp"
#include "runtime/nn/module.hpp"

namespace plasmid {

// y = x W + b.  x [tokens, in], y [tokens, out], f32. Keeps nothing.
class Linear final : public Module {
 public:
  explicit Linear(Affine affine) : affine_(std::move(affine)) {}
  using Module::backward;
  using Module::cost;
  using Module::forward;
  std::vector<TensorSpec> outputs(std::span<const TensorSpec> in) const override;
  Cost cost(std::span<const TensorSpec> in, Keep) const override;
  void parameters(const ParameterVisitor& visitor) override { affine_.visit(visitor); }
  SavedPtr forward(Context&, Keep, std::span<const ConstView> x, std::span<const View> y, const Saved* replay) override;
  void backward(Context&, SavedPtr, std::span<const ConstView> x, std::span<const ConstView> dy,
                std::span<const Gradient> dx) override;

 private:
  Affine affine_;
};

}  // namespace plasmid
