#pragma once
#include "runtime/nn/module.hpp"

namespace plasmid {

// Layer normalisation with gain and bias.  x, y [tokens, width] f32. Keeps mean and rstd [tokens].
class LayerNorm final : public Module {
 public:
  LayerNorm(const std::string& name, Index width, float epsilon);  // parameters NAME.weight, NAME.bias
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
  ParameterPtr gain_, bias_;
  float epsilon_;
};

// Root-mean-square normalisation with gain.  x, y [tokens, width] f32. Keeps rstd [tokens].
class RmsNorm final : public Module {
 public:
  RmsNorm(const std::string& name, Index width, float epsilon);  // parameter NAME.weight
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
  ParameterPtr gain_;
  float epsilon_;
};

}  // namespace plasmid
