#pragma once
#include "runtime/nn/module.hpp"

namespace plasmid {

// y[t] = table[token[t]] (+ positions[TokenMap::position[t]]).  x: token i32 [tokens]; y [tokens, width] f32. Keeps
// nothing. Tokens and positions outside their tables are CHECKed: whoever reads data or a job refuses them before.
class Embedding final : public Module {
 public:
  // table [vocabulary, width]; positions [positions, width], or null: none are added.
  explicit Embedding(ParameterPtr table, ParameterPtr positions = nullptr);
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
  ParameterPtr table_, positions_;
};

}  // namespace plasmid
