#pragma once
#include "runtime/nn/module.hpp"

namespace plasmid {

// A table of vectors by position. Its row is position / divide, modulo its rows where another table divides by more;
// its vector is added to the channels from `channel` on. One table of all positions has divide 1; two of n and m rows
// that stand for n * m positions, each for its own channels (Kitaev et al. 2020, axial positional encodings), have
// divide m and 1.
struct PositionTable {
  ParameterPtr table;  // [rows, channels], dims of 1 aside
  Index divide = 1;
  Index channel = 0;
};

// y[t] = table[token[t]] + what the tables of positions give for TokenMap::position[t].  x: token i32 [tokens]; y
// [tokens, width] f32. Keeps nothing. Tokens and positions outside their tables are CHECKed: whoever reads data or a
// job refuses them before.
class Embedding final : public Module {
 public:
  // table [vocabulary, width]; positions [positions, width], or null: none are added.
  explicit Embedding(ParameterPtr table, ParameterPtr positions = nullptr);
  Embedding(ParameterPtr table, std::vector<PositionTable> positions);
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
  bool is_outer(const PositionTable& part) const;
  ParameterPtr table_;
  std::vector<PositionTable> positions_;
};

}  // namespace plasmid
