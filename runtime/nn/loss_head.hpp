#pragma once
#include "runtime/nn/module.hpp"

namespace plasmid {

// Softmax cross-entropy of logits = x W^T + b, chunk by chunk of tokens: the whole logits never exist.
//   x   hidden [tokens, width] f32, labels i32 [tokens] (-1: not counted)
//   y   loss f64 [1]: the sum over counted labels of -log p(label); counted i64 [1]
//   dy  dloss f64 [1] (a second entry, of the count, is ignored);  dx of hidden; of labels: skip
// Keeps the log sum exp of each row [tokens]; backward forms the logits again.
class LossHead final : public Module {
 public:
  // weight [vocabulary, width], of its own or the embedding's (tied); bias [vocabulary], or null.
  explicit LossHead(ParameterPtr weight, ParameterPtr bias = nullptr);
  using Module::backward;
  using Module::cost;
  using Module::forward;
  std::vector<TensorSpec> outputs(std::span<const TensorSpec> in) const override;
  Cost cost(std::span<const TensorSpec> in, Keep) const override;
  void parameters(const ParameterVisitor&) override;
  SavedPtr forward(Context&, Keep, std::span<const ConstView> x, std::span<const View> y, const Saved* replay) override;
  void backward(Context&, SavedPtr, std::span<const ConstView> x, std::span<const ConstView> dy,
                std::span<const Gradient> dx) override;

  void logits(Context&, ConstView hidden, View logits);  // whole: [tokens, vocabulary]

 private:
  Index chunk(Index tokens) const;
  ParameterPtr weight_, bias_;
};

}  // namespace plasmid
