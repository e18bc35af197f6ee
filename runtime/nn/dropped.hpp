#pragma once
#include "runtime/base/dropout_mask.hpp"
#include "runtime/nn/module.hpp"

namespace plasmid {

// Where in a layer a mask applies: part of its key, so that two masks of one layer differ.
enum class DropoutPlace : std::uint8_t { embedding, attention_probabilities, attention_output, mlp_output };

// The mask of a place at this step and layer; empty where the context does not train. Its rows are tokens of the job's
// whole batch (TokenMap::first + the line's), its columns channels.
DropoutMask dropout_mask(const Context&, DropoutPlace, double probability);

// y = dropout(inner(x)): while training, elements of the inner y are zero with the probability, the others divided by
// what is left. The inner y is f32 [tokens, channels], a row a token of the TokenMap. Keeps nothing of its own:
// backward draws the mask again.
class Dropped final : public Module {
 public:
  Dropped(std::unique_ptr<Module> inner, double probability, DropoutPlace);
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
  double probability_;
  DropoutPlace place_;
};

// `inner` itself where the probability is 0.
std::unique_ptr<Module> dropped(std::unique_ptr<Module> inner, double probability, DropoutPlace);

}  // namespace plasmid
