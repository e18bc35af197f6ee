#include "attention/lsh/hash.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <limits>
#include <string>

#include "attention/lsh/lsh.hpp"
#include "runtime/base/error.hpp"
#include "runtime/base/philox.hpp"
#include "runtime/device/parallel_for.hpp"
#include "runtime/ops/matmul.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/lsh/hash.cpp"
#include <hwy/foreach_target.h>

#include "runtime/ops/simd-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace plasmid::lsh {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Index of the largest of [x, -x], the lowest of equals; 0 where there is none (NaN).
HWY_INLINE Index largest_of_both(const float* x, Index n) {
  const hn::ScalableTag<float> tag;
  const auto lanes = static_cast<Index>(hn::Lanes(tag));
  float high = -std::numeric_limits<float>::infinity(), low = std::numeric_limits<float>::infinity();
  Index c = 0;
  if (n >= lanes) {
    auto highs = hn::LoadU(tag, x), lows = highs;
    for (c = lanes; c + lanes <= n; c += lanes) {
      const auto v = hn::LoadU(tag, x + c);
      highs = hn::Max(highs, v), lows = hn::Min(lows, v);
    }
    high = hn::GetLane(hn::MaxOfLanes(tag, highs)), low = hn::GetLane(hn::MinOfLanes(tag, lows));
  }
  for (; c < n; ++c) high = std::max(high, x[c]), low = std::min(low, x[c]);
  const bool positive = high >= -low;
  const float wanted = positive ? high : low;
  const auto sought = hn::Set(tag, wanted);
  for (c = 0; c + lanes <= n; c += lanes)
    if (const auto found = hn::FindFirstTrue(tag, hn::Eq(hn::LoadU(tag, x + c), sought)); found >= 0)
      return (positive ? 0 : n) + c + static_cast<Index>(found);
  for (; c < n; ++c)
    if (x[c] == wanted) return (positive ? 0 : n) + c;
  return 0;
}

// projected [rows, rounds * columns]; buckets of round r at r * step.
void Choose(const float* projected, Index rows, Index rounds, const LshBuckets& shape, std::uint16_t* buckets,
            Index step) {
  const Index first = shape.first / 2, second = shape.second / 2;
  for (Index i = 0; i < rows; ++i)
    for (Index r = 0; r < rounds; ++r, projected += first + second) {
      Index bucket = largest_of_both(projected, first);
      if (second > 0) bucket = bucket * shape.second + largest_of_both(projected + first, second);
      buckets[r * step + i] = static_cast<std::uint16_t>(bucket);
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace plasmid::lsh
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace plasmid {
namespace lsh {
HWY_EXPORT(Choose);
}

namespace {

constexpr Index kOneFactor = 64;        // buckets up to which one is as cheap
constexpr Index kTileFloats = 1 << 15;  // of projected rows: they stay in the second-level cache
constexpr Index kPanelRows = 48;        // of a product

LshBuckets split(Index power_of_two) {
  if (power_of_two <= kOneFactor) return {power_of_two, 1};
  const int bits = std::countr_zero(static_cast<std::uint64_t>(power_of_two));
  return {Index{1} << bits / 2, Index{1} << (bits + 1) / 2};
}

struct Tiles {  // of tokens, whose projections a thread holds at once
  Index rows, count, team;
  TensorSpec memory;
  Tiles(Index tokens, Index heads, Index columns)
      : rows(std::min(std::max(kPanelRows, kTileFloats / columns / kPanelRows * kPanelRows),
                      std::max(kPanelRows, round_up(tokens, kPanelRows)))),
        count(ceil_div(tokens, rows)),
        team(omp_in_parallel() ? 1 : std::clamp<Index>(heads * count, 1, omp_get_max_threads())),
        memory{{team, rows, columns}} {}
};

}  // namespace

LshBuckets choose_lsh_buckets(Index length, Index chunk) {
  const auto wanted = static_cast<std::uint64_t>(std::clamp<Index>(ceil_div(length, chunk), 2, kMaxLshBuckets));
  return split(static_cast<Index>(std::bit_ceil(wanted)));
}

LshBuckets lsh_buckets_of(Index count) {
  if (count < 2 || count > kMaxLshBuckets || count % 2 != 0)
    throw Error(ErrorCode::config, "buckets = " + std::to_string(count) +
                                       " of LSH attention: an even number from 2 to " + std::to_string(kMaxLshBuckets) +
                                       " is wanted");
  return std::has_single_bit(static_cast<std::uint64_t>(count)) ? split(count) : LshBuckets{count, 1};
}

void draw_lsh_rotations(std::uint64_t seed, std::uint64_t layer, Index rounds, const LshBuckets& shape,
                        View rotations) {
  const Index heads = rotations.dim(0), d = rotations.dim(1), columns = shape.columns();
  PLASMID_CHECK(rotations.contiguous() && rotations.dim(2) == rounds * columns)
      << "rotations " << to_string(rotations.shape) << " for " << rounds << " rounds of " << columns << " columns";
  const Philox::Block drawn = Philox::draw(seed ^ name_key("lsh rotations"), layer, 0);
  const std::uint64_t key = std::uint64_t{drawn[0]} << 32 | drawn[1];
  parallel_for(heads * rounds, 1, [&](Index begin, Index end) {
    for (Index set = begin; set < end; ++set) {
      const Index head = set / rounds, round = set % rounds;
      float* to = rotations.ptr<float>() + head * d * rounds * columns + round * columns;
      const std::uint64_t owner = static_cast<std::uint64_t>(round) << 32 | static_cast<std::uint64_t>(head);
      for (Index i = 0; i < d * columns; i += 4) {
        const Philox::Block block = Philox::draw(key, owner, static_cast<std::uint64_t>(i / 4));
        const auto low = normal_pair(block[0], block[1]), high = normal_pair(block[2], block[3]);
        const double normals[] = {low[0], low[1], high[0], high[1]};
        for (Index n = i; n < std::min(i + 4, d * columns); ++n)
          to[n % d * rounds * columns + n / d] = static_cast<float>(normals[n - i]);
      }
    }
  });
}

void lsh_hash(ConstView qk, ConstView rotations, Index rounds, const LshBuckets& shape, View buckets, Arena& scratch,
              Stream& stream) {
  const Index tokens = qk.dim(0), heads = qk.dim(1), d = qk.dim(2), columns = rounds * shape.columns();
  PLASMID_CHECK(rotations.contiguous() && rotations.shape == (Shape{heads, d, columns}))
      << "rotations " << to_string(rotations.shape) << ", not " << to_string(Shape{heads, d, columns});
  PLASMID_CHECK(buckets.contiguous() && buckets.shape == (Shape{heads, rounds, tokens}))
      << "buckets " << to_string(buckets.shape) << ", not " << to_string(Shape{heads, rounds, tokens});
  PLASMID_CHECK(shape.count() <= kMaxLshBuckets && shape.first % 2 == 0 &&
                (shape.second == 1 || shape.second % 2 == 0));
  if (tokens == 0) return;
  const Tiles cut(tokens, heads, columns);
  const Index tile = cut.rows, tiles = cut.count;
  std::uint16_t* const to = buckets.ptr<std::uint16_t>();
  const auto work = [&](Index item, float* projected) {
    const Index head = item / tiles, first = item % tiles * tile, rows = std::min(tile, tokens - first);
    ConstView x = qk.slice(0, first, first + rows).slice(1, head, head + 1);
    x.shape = {rows, d}, x.stride[1] = x.stride[2];
    const View y(reinterpret_cast<std::byte*>(projected), {{rows, columns}});
    ops::linear_forward(x, rotations.slice(0, head, head + 1).reshape({d, columns}), ops::WeightLayout::in_out, {}, y,
                        stream);
    using namespace lsh;
    HWY_DYNAMIC_DISPATCH(Choose)(projected, rows, rounds, shape, to + head * rounds * tokens + first, tokens);
  };
  std::atomic<Index> next{0};
  const Buffer memory = scratch.take(cut.memory, "scratch.lsh");
  float* const projected = memory.view().ptr<float>();
  parallel_team(cut.team, [&](Index thread, Index) {
    for (Index i; (i = next.fetch_add(1)) < heads * tiles;) work(i, projected + thread * tile * columns);
  });
}

Index lsh_hash_scratch_bytes(Index tokens, Index heads, Index rounds, const LshBuckets& shape) {
  return arena_bytes(Tiles(tokens, heads, rounds * shape.columns()).memory);
}

}  // namespace plasmid
#endif
