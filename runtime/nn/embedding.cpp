#include "runtime/nn/embedding.hpp"

#include <algorithm>

#include "runtime/nn/saved.hpp"
#include "runtime/ops/embedding.hpp"

namespace plasmid {
namespace {

Index channels(const PositionTable& part) { return part.table->shape[part.table->shape.rank - 1]; }
Index row_count(const PositionTable& part) { return part.table->shape.count() / channels(part); }
// One table of all positions: its rows are the positions.
bool is_plain(const PositionTable& part) { return part.table->shape.rank == 2 && part.divide == 1; }

template <class AnyView>
AnyView as_rows(AnyView table, const PositionTable& part) {
  return table.reshape({row_count(part), channels(part)});
}
template <class AnyView>
AnyView columns(AnyView y, const PositionTable& part) {
  return y.slice(1, part.channel, part.channel + channels(part));
}

// Which row of a table each token takes.
struct Rows {
  // `outer`: its rows do not recur, so a position beyond them is a row beyond its table.
  Rows(Context& context, const PositionTable& part, bool outer) : view(context.tokens.position) {
    if (is_plain(part)) return;
    buffer = context.scratch.take({{context.tokens.tokens()}, DType::i32}, "embedding.rows");
    const auto positions = context.tokens.position.flat<std::int32_t>();
    const auto divide = static_cast<std::int32_t>(part.divide), rows = static_cast<std::int32_t>(row_count(part));
    std::ranges::transform(positions, buffer.view().flat<std::int32_t>().begin(), [=](std::int32_t position) {
      const std::int32_t row = position / divide;
      return outer ? row : row % rows;
    });
    view = buffer.view();
  }
  Buffer buffer;
  ConstView view;  // i32 [tokens]
};

}  // namespace

Embedding::Embedding(ParameterPtr table, ParameterPtr positions) : table_(std::move(table)) {
  if (positions) positions_.push_back({std::move(positions)});
}

Embedding::Embedding(ParameterPtr table, std::vector<PositionTable> positions)
    : table_(std::move(table)), positions_(std::move(positions)) {
  for (const PositionTable& part : positions_)
    PLASMID_CHECK(part.divide > 0 && part.channel >= 0 && part.channel + channels(part) <= table_->shape[1])
        << part.table->name << ": channels from " << part.channel << " of " << table_->shape[1];
}

std::vector<TensorSpec> Embedding::outputs(std::span<const TensorSpec> in) const {
  return {{{in[0].shape[0], table_->shape[1]}}};
}

bool Embedding::is_outer(const PositionTable& part) const {
  return &part == &*std::ranges::max_element(positions_, {}, &PositionTable::divide);  // the first of equals
}

Cost Embedding::cost(std::span<const TensorSpec> in, Keep) const {
  const bool indexed = std::ranges::any_of(positions_, [&](const PositionTable& part) { return !is_plain(part); });
  return {.scratch = indexed ? arena_bytes({in[0].shape, DType::i32}) : 0};
}

void Embedding::parameters(const ParameterVisitor& visitor) {
  visitor(table_);
  for (const PositionTable& part : positions_) visitor(part.table);
}

SavedPtr Embedding::forward(Context& context, Keep, std::span<const ConstView> x, std::span<const View> y,
                            const Saved*) {
  check_tensor(x[0], {{context.tokens.tokens()}, DType::i32}, "Embedding's tokens");
  const Lease table(context.weights, *table_, context.compute);
  ops::embedding_forward(x[0], table.view(), Write::overwrite, y[0], context.compute);
  for (const PositionTable& part : positions_) {
    const Lease rows(context.weights, *part.table, context.compute);
    const Rows index(context, part, is_outer(part));
    ops::embedding_forward(index.view, as_rows(rows.view(), part), Write::accumulate, columns(y[0], part),
                           context.compute);
  }
  return std::make_unique<Saved>();
}

void Embedding::backward(Context& context, SavedPtr, std::span<const ConstView> x, std::span<const ConstView> dy,
                         std::span<const Gradient> dx) {
  PLASMID_CHECK(dx.empty() || dx[0].write == Write::skip) << "tokens have no gradient";
  ops::embedding_backward(x[0], dy[0], context.weights.gradient(*table_), context.compute);
  announce(context, *table_);
  for (const PositionTable& part : positions_) {
    const Rows index(context, part, is_outer(part));
    ops::embedding_backward(index.view, columns(dy[0], part), as_rows(context.weights.gradient(*part.table), part),
                            context.compute);
    announce(context, *part.table);
  }
}

}  // namespace plasmid
