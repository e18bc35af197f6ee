#include <vector>

#include "runtime/ops/embedding.hpp"
#include "runtime/ops/rows.hpp"

namespace plasmid::ops::ref {

void embedding_forward(ConstView index, ConstView table, Write write, View y) {
  if (write == Write::skip) return;
  const Index tokens = index.dim(0), width = table.dim(1);
  const std::int32_t* indices = vector_of<std::int32_t>(index, tokens);
  const auto entries = rows_of<float>(table, table.dim(0), width);
  const auto ys = rows_of<float>(y, tokens, width);
  for (Index t = 0; t < tokens; ++t) {
    PLASMID_CHECK(indices[t] >= 0 && indices[t] < entries.count) << "index " << indices[t] << " of " << entries.count;
    for (Index c = 0; c < width; ++c) put(ys[t][c], entries[indices[t]][c], write);
  }
}

void embedding_backward(ConstView index, ConstView dy, View dtable) {
  const Index tokens = index.dim(0), width = dtable.dim(1);
  const std::int32_t* indices = vector_of<std::int32_t>(index, tokens);
  const auto dys = rows_of<float>(dy, tokens, width);
  const auto entries = rows_of<float>(dtable, dtable.dim(0), width);
  std::vector<double> sums(static_cast<std::size_t>(entries.count * width));
  for (Index t = 0; t < tokens; ++t) {
    PLASMID_CHECK(indices[t] >= 0 && indices[t] < entries.count) << "index " << indices[t] << " of " << entries.count;
    for (Index c = 0; c < width; ++c) sums[static_cast<std::size_t>(indices[t] * width + c)] += dys[t][c];
  }
  for (Index r = 0; r < entries.count; ++r)
    for (Index c = 0; c < width; ++c)
      put(entries[r][c], sums[static_cast<std::size_t>(r * width + c)], Write::accumulate);
}

}  // namespace plasmid::ops::ref
