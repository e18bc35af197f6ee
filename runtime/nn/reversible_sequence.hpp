#pragma once
#include "runtime/nn/reversible.hpp"

namespace plasmid {

// A ReversibleStack as a module between f32 streams.  x1, x2 -> y1, y2, each [tokens, width] f32; inputs are rounded
// to the streams' step, gradients pass as if they were not. With Keep::all it keeps the two streams at their end, and
// what the branches decided, at any depth.
class ReversibleSequence final : public Module {
 public:
  // `keep`: what branches keep between forward and backward, Keep::decisions or Keep::core.
  explicit ReversibleSequence(ReversibleStack stack, Keep keep = Keep::decisions, FixedPoint = {});
  using Module::backward;
  using Module::cost;
  using Module::forward;
  std::vector<TensorSpec> outputs(std::span<const TensorSpec> in) const override { return {in[0], in[1]}; }
  Cost cost(std::span<const TensorSpec> in, Keep) const override;
  void parameters(const ParameterVisitor& visitor) override { stack_.parameters(visitor); }
  // `replay` is not read: what branches decide follows from the streams' bits.
  SavedPtr forward(Context&, Keep, std::span<const ConstView> x, std::span<const View> y, const Saved* replay) override;
  void backward(Context&, SavedPtr, std::span<const ConstView> x, std::span<const ConstView> dy,
                std::span<const Gradient> dx) override;

 private:
  ReversibleStack stack_;
  Keep keep_;
  FixedPoint format_;
};

}  // namespace plasmid
