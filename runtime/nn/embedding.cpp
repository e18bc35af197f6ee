#include "runtime/nn/embedding.hpp"

#include "runtime/nn/saved.hpp"
#include "runtime/ops/embedding.hpp"

namespace plasmid {

Embedding::Embedding(ParameterPtr table, ParameterPtr positions)
    : table_(std::move(table)), positions_(std::move(positions)) {}

std::vector<TensorSpec> Embedding::outputs(std::span<const TensorSpec> in) const {
  return {{{in[0].shape[0], table_->shape[1]}}};
}

Cost Embedding::cost(std::span<const TensorSpec>, Keep) const { return {}; }

void Embedding::parameters(const ParameterVisitor& visitor) {
  visitor(table_);
  if (positions_) visitor(positions_);
}

SavedPtr Embedding::forward(Context& context, Keep, std::span<const ConstView> x, std::span<const View> y,
                            const Saved*) {
  check_tensor(x[0], {{context.tokens.tokens()}, DType::i32}, "Embedding's tokens");
  const Lease table(context.weights, *table_, context.compute);
  ops::embedding_forward(x[0], table.view(), Write::overwrite, y[0], context.compute);
  if (positions_) {
    const Lease positions(context.weights, *positions_, context.compute);
    ops::embedding_forward(context.tokens.position, positions.view(), Write::accumulate, y[0], context.compute);
  }
  return std::make_unique<Saved>();
}

void Embedding::backward(Context& context, SavedPtr, std::span<const ConstView> x, std::span<const ConstView> dy,
                         std::span<const Gradient> dx) {
  PLASMID_CHECK(dx.empty() || dx[0].write == Write::skip) << "tokens have no gradient";
  ops::embedding_backward(x[0], dy[0], context.weights.gradient(*table_), context.compute);
  announce(context, *table_);
  if (!positions_) return;
  ops::embedding_backward(context.tokens.position, dy[0], context.weights.gradient(*positions_), context.compute);
  announce(context, *positions_);
}

}  // namespace plasmid
