#pragma once
#include "runtime/nn/affine.hpp"
#include "runtime/nn/module.hpp"
#include "runtime/ops/activation.hpp"

namespace plasmid {

// y = down(activation(up(x))).  x, y [tokens, width] f32. Keeps up(x) [tokens, hidden]; backward forms the activation
// again, which costs less than the memory it would take.
class Mlp final : public Module {
 public:
  Mlp(Affine up, ops::Activation activation, Affine down);
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
  Affine up_, down_;
  ops::Activation activation_;
};

// y = down(swiglu(gate(x), up(x))).  x, y [tokens, width] f32. Keeps gate(x) and up(x) [tokens, hidden].
class SwiGluMlp final : public Module {
 public:
  SwiGluMlp(Affine gate, Affine up, Affine down);
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
  Affine gate_, up_, down_;
};

}  // namespace plasmid
