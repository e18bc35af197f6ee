#include <algorithm>

#include "runtime/base/recycled.hpp"
#include "runtime/device/parallel_for.hpp"
#include "runtime/ops/embedding.hpp"
#include "runtime/ops/rows.hpp"

namespace plasmid::ops {
namespace {

constexpr Index kGrain = 4096;                             // elements
constexpr Index kLine = 16;                                // floats
constexpr Index kStretch = 256;                            // tokens of a row summed in f32; the stretches in f64
constexpr Index kCachedFloats = 8192, kLeastColumns = 64;  // of sums at work at once

void check_indices(const std::int32_t* indices, Index tokens, Index rows) {
  for (Index t = 0; t < tokens; ++t)
    PLASMID_CHECK(indices[t] >= 0 && indices[t] < rows) << "index " << indices[t] << " of " << rows;
}

void add_row(const float* from, Index width, float* to) {
  for (Index c = 0; c < width; ++c) to[c] += from[c];
}

// Rows with more tokens than a stretch holds: of those there are few, whatever the table.
struct FrequentRows {
  FrequentRows(const std::int32_t* indices, Index tokens, Index rows) : slot(static_cast<std::size_t>(rows), -1) {
    RecycledVector<Index> tokens_of(slot.size());
    for (Index t = 0; t < tokens; ++t) ++tokens_of[static_cast<std::size_t>(indices[t])];
    for (std::size_t row = 0; row < slot.size(); ++row) {
      if (tokens_of[row] <= kStretch) continue;
      slot[row] = static_cast<Index>(frequent.size());
      frequent.push_back(static_cast<Index>(row));
    }
  }
  RecycledVector<Index> slot;  // of a row among the frequent ones, or -1
  RecycledVector<Index> frequent;
};

void add_and_clear(float* part, Index width, double* total) {
  for (Index c = 0; c < width; ++c) total[c] += part[c], part[c] = 0;
}

// entries[index[t]][columns] += dy[t][columns], in one walk along the tokens.
void add_columns(const std::int32_t* indices, Rows<const float> dys, Range columns, const FrequentRows& rows,
                 Rows<float> entries) {
  const Index width = columns.size(), count = static_cast<Index>(rows.frequent.size());
  RecycledVector<Index> added(rows.frequent.size());
  RecycledVector<float> parts(static_cast<std::size_t>(count * width));
  RecycledVector<double> totals(parts.size());
  for (Index t = 0; t < dys.count; ++t) {
    const Index slot = rows.slot[static_cast<std::size_t>(indices[t])];
    float* const to = slot < 0 ? entries[indices[t]] + columns.begin : parts.data() + slot * width;
    add_row(dys[t] + columns.begin, width, to);
    if (slot >= 0 && ++added[static_cast<std::size_t>(slot)] % kStretch == 0)
      add_and_clear(to, width, totals.data() + slot * width);
  }
  for (Index slot = 0; slot < count; ++slot) {
    double* const total = totals.data() + slot * width;
    add_and_clear(parts.data() + slot * width, width, total);
    float* const entry = entries[rows.frequent[static_cast<std::size_t>(slot)]] + columns.begin;
    for (Index c = 0; c < width; ++c) put(entry[c], total[c], Write::accumulate);
  }
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

void embedding_backward(ConstView index, ConstView dy, View dtable, Stream&) {
  const Index tokens = index.dim(0), width = dtable.dim(1);
  const std::int32_t* indices = vector_of<std::int32_t>(index, tokens);
  const auto dys = rows_of<float>(dy, tokens, width);
  const auto entries = rows_of<float>(dtable, dtable.dim(0), width);
  check_indices(indices, tokens, entries.count);
  const FrequentRows rows(indices, tokens, entries.count);
  const Index most =
      std::max(kLeastColumns, kCachedFloats / std::max<Index>(1, std::ssize(rows.frequent)) / kLine * kLine);
  // The columns are split, not the tokens: a vocabulary of five rows keeps a whole team busy.
  parallel_for(ceil_div(width, kLine), ceil_div(kGrain, kLine * (tokens + 1)), [&](Index first, Index last) {
    const Index end = std::min(last * kLine, width);
    for (Index begin = first * kLine; begin < end; begin += most)
      add_columns(indices, dys, {begin, std::min(begin + most, end)}, rows, entries);
  });
}

}  // namespace plasmid::ops
