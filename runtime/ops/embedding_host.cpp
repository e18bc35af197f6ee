#include <algorithm>

#include "runtime/device/parallel_for.hpp"
#include "runtime/ops/embedding.hpp"
#include "runtime/ops/rows.hpp"

namespace plasmid::ops {
namespace {

constexpr Index kGrain = 4096;  // elements
constexpr Index kLine = 16;     // floats

void check_indices(const std::int32_t* indices, Index tokens, Index rows) {
  for (Index t = 0; t < tokens; ++t)
    PLASMID_CHECK(indices[t] >= 0 && indices[t] < rows) << "index " << indices[t] << " of " << rows;
}

void add_row(const float* from, Index width, float* to) {
  for (Index c = 0; c < width; ++c) to[c] += from[c];
}

}  // namespace

void embedding_forward(ConstView index, ConstView table, Write write, View y, Stream&) {
  if (write == Write::skip) return;
  const Index tokens = index.dim(0), width = table.dim(1);
  const std::int32_t* indices = vector_of<std::int32_t>(index, tokens);
  const auto entries = rows_of<float>(table, table.dim(0), width);
  const auto ys = rows_of<float>(y, tokens, width);
  check_indices(indices, tokens, entries.count);
  parallel_for(tokens, ceil_div(kGrain, width + 1), [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t) {
      if (write == Write::overwrite)
        std::copy_n(entries[indices[t]], width, ys[t]);
      else
        add_row(entries[indices[t]], width, ys[t]);
    }
  });
}

// The columns are split, not the tokens: each thread adds all tokens to its own part of every row, in order, and a
// vocabulary of five rows keeps a whole team busy.
void embedding_backward(ConstView index, ConstView dy, View dtable, Stream&) {
  const Index tokens = index.dim(0), width = dtable.dim(1);
  const std::int32_t* indices = vector_of<std::int32_t>(index, tokens);
  const auto dys = rows_of<float>(dy, tokens, width);
  const auto entries = rows_of<float>(dtable, dtable.dim(0), width);
  check_indices(indices, tokens, entries.count);
  parallel_for(ceil_div(width, kLine), ceil_div(kGrain, kLine * (tokens + 1)), [&](Index first, Index last) {
    const Index begin = first * kLine, columns = std::min(last * kLine, width) - begin;
    for (Index t = 0; t < tokens; ++t) add_row(dys[t] + begin, columns, entries[indices[t]] + begin);
  });
}

}  // namespace plasmid::ops
