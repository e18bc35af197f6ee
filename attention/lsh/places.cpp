#include "attention/lsh/places.hpp"

#include <omp.h>

#include <algorithm>
#include <utility>

#include "attention/lsh/order.hpp"
#include "runtime/base/check.hpp"
#include "runtime/device/parallel_for.hpp"

namespace plasmid::detail {
namespace {

Index threads_for(Index heads) { return omp_in_parallel() ? 1 : std::clamp<Index>(heads, 1, omp_get_max_threads()); }

TensorSpec words(std::initializer_list<Index> shape) { return {shape, DType::i32}; }

}  // namespace

LshPlaces::LshPlaces(const LshPlan& plan, Communicator& ring, Index bucket_count, Index heads, Arena& scratch)
    : plan_(plan),
      ring_(ring),
      bucket_count_(bucket_count),
      table_(scratch.take(words({plan.segment_begin.back(), heads, bucket_count}), "scratch.lsh")),
      counts_(scratch.take(words({threads_for(heads), bucket_count}), "scratch.lsh")),
      order_(scratch.take(words({threads_for(heads), bucket_count}), "scratch.lsh")) {}

Index LshPlaces::scratch_bytes(Index segments, Index bucket_count, Index heads) {
  return arena_bytes(words({segments, heads, bucket_count})) +
         2 * arena_bytes(words({threads_for(heads), bucket_count}));
}

void LshPlaces::count(const std::uint16_t* buckets, Index head_step, Index heads) {
  auto* table = table_.view().ptr<std::int32_t>();
  std::fill_n(table, plan_.segment_begin.back() * heads * bucket_count_, 0);
  for (const LshPiece& piece : plan_.pieces) {
    if (piece.segment < 0) continue;
    for (Index h = 0; h < heads; ++h) {
      std::int32_t* counts = table + (piece.segment * heads + h) * bucket_count_;
      for (Index t = piece.local.begin; t < piece.local.end; ++t) ++counts[buckets[h * head_step + t]];
    }
  }
}

// A document that is here whole.
void LshPlaces::sort(const LshPiece& piece, const std::uint16_t* buckets, std::int32_t* places, Index thread) {
  const Index n = piece.local.size(), begin = plan_.document_begin(piece.document);
  std::int32_t* counts = counts_.view().ptr<std::int32_t>() + thread * bucket_count_;
  if (n <= bucket_count_) {
    std::int32_t* order = order_.view().ptr<std::int32_t>() + thread * bucket_count_;
    const Index whole[] = {0, n};
    sort_by_bucket({buckets + piece.local.begin, static_cast<std::size_t>(n)}, whole,
                   {order, static_cast<std::size_t>(n)}, {counts, static_cast<std::size_t>(bucket_count_)});
    for (Index i = 0; i < n; ++i) places[piece.local.begin + order[i]] = static_cast<std::int32_t>(begin + i);
    return;
  }
  std::fill_n(counts, bucket_count_, 0);
  for (Index t = piece.local.begin; t < piece.local.end; ++t) ++counts[buckets[t]];
  auto next = static_cast<std::int32_t>(begin);
  for (Index b = 0; b < bucket_count_; ++b) next += std::exchange(counts[b], next);
  for (Index t = piece.local.begin; t < piece.local.end; ++t) places[t] = counts[buckets[t]]++;
}

// Part of a document: behind all tokens of lower buckets, and those of the same bucket in earlier segments.
void LshPlaces::follow(const LshPiece& piece, Index head, Index heads, const std::uint16_t* buckets,
                       std::int32_t* places, Index thread) {
  const auto* table = table_.view().ptr<std::int32_t>();
  std::int32_t* next = counts_.view().ptr<std::int32_t>() + thread * bucket_count_;
  const auto document = static_cast<std::size_t>(piece.document);
  const Index first = plan_.segment_begin[document], last = plan_.segment_begin[document + 1];
  std::fill_n(next, bucket_count_, 0);
  auto total = static_cast<std::int32_t>(plan_.document_begin(piece.document));
  for (Index b = 0; b < bucket_count_; ++b) {
    std::int32_t all = 0, before = 0;
    for (Index s = first; s < last; ++s) {
      const std::int32_t here = table[(s * heads + head) * bucket_count_ + b];
      if (s < piece.segment) before += here;
      all += here;
    }
    next[b] = total + before;
    total += all;
  }
  for (Index t = piece.local.begin; t < piece.local.end; ++t) places[t] = next[buckets[t]]++;
}

Index LshPlaces::find(const std::uint16_t* buckets, Index head_step, Index heads, std::int32_t* places,
                      Stream& stream) {
  const Index tokens = plan_.pieces.empty() ? 0 : plan_.pieces.back().local.end;
  const Index summed = plan_.segment_begin.back() * heads * bucket_count_;
  if (summed > 0) {
    count(buckets, head_step, heads);
    const View table(table_.view().data, words({summed}));
    ring_.all_reduce(table, Reduce::sum, stream).wait(stream);
  }
  parallel_team(threads_for(heads), [&](Index thread, Index team) {
    for (Index h = thread; h < heads; h += team)
      for (const LshPiece& piece : plan_.pieces) {
        if (piece.segment < 0) {
          sort(piece, buckets + h * head_step, places + h * tokens, thread);
        } else {
          follow(piece, h, heads, buckets + h * head_step, places + h * tokens, thread);
        }
      }
  });
  return summed * size_of(DType::i32);
}

}  // namespace plasmid::detail
