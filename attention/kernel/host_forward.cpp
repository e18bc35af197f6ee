// The forward pass of one block of rows: scores and weights of one strip and one key tile at a time, with the running
// maximum and sum of Milakov and Gimelshein (2018); the block's own keys first, the merge with earlier chunks last.
#include <cmath>
#include <limits>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/kernel/host_forward.cpp"
#include <hwy/foreach_target.h>

#include "attention/kernel/host_dropout-inl.hpp"
#include "attention/kernel/host_pack-inl.hpp"
#include "attention/kernel/host_simd-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace plasmid::detail {
namespace HWY_NAMESPACE {

struct ForwardScratch {
  float *q, *out;                     // [strips][d][kStrip], transposed; q times scale
  float *peak, *sum;                  // [rows]
  std::int32_t *begin, *end;          // [rows]
  float *keys, *key_panels, *values;  // one tile
  float* weights;                     // [kTileKeys][kStrip]
  float* strip_rows;                  // one strip's rows, as lane panels or plain
  std::uint64_t* numbers;             // [rows], for dropout

  ForwardScratch(Carver& carver, const Extents& e, Index rows) {
    const Index tile = kTileKeys * e.d;
    q = carver.floats(rows * e.d), out = carver.floats(rows * e.d);
    peak = carver.floats(rows), sum = carver.floats(rows);
    begin = carver.ints(rows), end = carver.ints(rows);
    keys = carver.floats(tile), key_panels = carver.floats(tile), values = carver.floats(tile);
    weights = carver.floats(kTileKeys * kStrip);
    strip_rows = carver.floats(LanePanels{e.d, kStrip}.floats());
    numbers = carver.longs(rows);
  }
};

inline void pack_queries(const HostCall& call, const RowBlock& block, Index strip, const ForwardScratch& scratch) {
  const Index d = call.extent.d;
  const LanePanels panels{d, kStrip};
  std::fill_n(scratch.strip_rows, panels.floats(), 0.0f);
  for (Index lane = 0; lane < kStrip; ++lane) {
    const Index row = block.rows.begin + strip * kStrip + lane;
    if (row >= block.rows.end) break;
    pack_query(call, block, row, panels, lane, scratch.strip_rows);
  }
  transpose_strip(scratch.strip_rows, panels, 0, scratch.q + strip * d * kStrip);
}

// Raw scores of one panel, -inf where `seen` says no; peak [kStrip] becomes the maximum with them. All: every pair
// counts.
template <class Seen>
HWY_NOINLINE void score(const float* keys, const float* q, Index d, const Seen& seen, float* scores, float* peak) {
  PanelSums s;
  score_panel(keys, q, d, s);
  Floats peak0 = load(peak), peak1 = load(peak + kLanes);
#pragma GCC unroll 12
  for (Index r = 0; r < kPanel; ++r) {
    if constexpr (!std::is_same_v<Seen, All>) {
      const Floats none = splat(-std::numeric_limits<float>::infinity());
      s[r][0] = hn::IfThenElse(seen(r, 0), s[r][0], none), s[r][1] = hn::IfThenElse(seen(r, 1), s[r][1], none);
    }
    peak0 = hn::Max(peak0, s[r][0]), peak1 = hn::Max(peak1, s[r][1]);
    store(s[r][0], scores + r * kStrip), store(s[r][1], scores + r * kStrip + kLanes);
  }
  store(peak0, peak), store(peak1, peak + kLanes);
}

// Raw scores of one strip against one tile, and their maximum over the tile.
inline void score_strip(const HostCall& call, const RowBlock& block, const StripMask& mask, Index strip, Index key_tile,
                        const std::array<PanelState, kMaxPanels>& state, const ForwardScratch& scratch, float* peak) {
  const Index d = call.extent.d;
  const float* q = scratch.q + strip * d * kStrip;
  std::fill_n(peak, kStrip, -std::numeric_limits<float>::infinity());
  for (Index p = 0; p < kPanels; ++p) {
    const float* keys = scratch.key_panels + p * kPanel * d;
    float* scores = scratch.weights + p * kPanel * kStrip;
    if (state[static_cast<std::size_t>(p)] == PanelState::full) {
      score(keys, q, d, All{}, scores, peak);
    } else if (state[static_cast<std::size_t>(p)] == PanelState::partial) {
      score(keys, q, d, PanelMask(call, block, mask, strip, key_tile * kTileKeys + p * kPanel), scores, peak);
    }
  }
}

// Scores become weights relative to the new maximum; what was summed before is scaled to it. A row that the tile does
// not concern meets factors of exactly one and weights of exactly zero. What `kept` (All, or KeptBits) drops counts in
// the sum of the weights alone.
template <class Kept>
inline void weigh_strip(std::span<const KeyRun> runs, const float* tile_peak, Index strip, const Kept& kept,
                        const ForwardScratch& scratch, float* factor) {
  const Floats none = splat(-std::numeric_limits<float>::infinity());
  for (Index vector = 0; vector < 2; ++vector) {
    float *peak = scratch.peak + strip * kStrip + vector * kLanes, *sum = scratch.sum + (peak - scratch.peak);
    const Floats before = load(peak), now = hn::Max(before, load(tile_peak + vector * kLanes));
    const Floats origin = hn::IfThenElse(hn::Eq(now, none), hn::Zero(FloatTag()), now);
    const Floats rescale = exp_nonpositive(hn::Sub(before, origin));
    store(rescale, factor + vector * kLanes);
    Floats total = hn::Zero(FloatTag());
    for (const KeyRun run : runs)
      for (Index j = run.begin; j < run.end; ++j) {
        float* weight = scratch.weights + j * kStrip + vector * kLanes;
        const Floats w = exp_nonpositive(hn::Sub(load(weight), origin));
        total = hn::Add(total, w);
        if constexpr (std::is_same_v<Kept, All>) {
          store(w, weight);
        } else {
          store(hn::IfThenElseZero(kept(j, vector), w), weight);
        }
      }
    store(hn::MulAdd(load(sum), rescale, total), sum);
    store(now, peak);
  }
}

HWY_NOINLINE void weigh_and_drop(const HostCall& call, std::span<const KeyRun> runs, Index key_tile,
                                 const float* tile_peak, Index strip, const ForwardScratch& scratch, float* factor) {
  KeptBits kept;
  kept.draw(call, scratch.numbers + strip * kStrip, key_tile, runs);
  weigh_strip(runs, tile_peak, strip, kept, scratch, factor);
}

// out and lse of the block's rows become the merge of what they hold and what the block found.
inline void merge_rows(const HostCall& call, const RowBlock& block, const ForwardScratch& scratch) {
  const Index d = call.extent.d;
  for (Index row = block.rows.begin; row < block.rows.end; ++row) {
    const Index r = row - block.rows.begin, lane = r % kStrip;
    prefetch_ahead(call, block, row, call.out);
    if (lane == 0) transpose(scratch.out + r * d, kStrip, d, kStrip, scratch.strip_rows, d);
    const float total = scratch.sum[r];
    if (total == 0) continue;
    const Index query = call.row_query(row), head = call.row_head(block.kv_head, row);
    float *out = call.out.at(query, head), *lse = call.lse.at(query, head);
    const float* found = scratch.strip_rows + lane * d;
    const double lse_a = *lse, lse_b = scratch.peak[r] + std::log(static_cast<double>(total));
    const float inverse = (call.dropout ? call.dropout->mask.scale() : 1) / total;
    if (std::isinf(lse_a)) {
      for (Index c = 0; c < d; ++c) out[c] = found[c] * inverse;
    } else {
      const auto weight = static_cast<float>(1 / (1 + std::exp(lse_a - lse_b)));
      for (Index c = 0; c < d; ++c) out[c] -= weight * (out[c] - found[c] * inverse);
    }
    const double high = std::max(lse_a, lse_b), low = std::min(lse_a, lse_b);
    *lse = static_cast<float>(high + std::log1p(std::exp(low - high)));
  }
}

void ForwardBlock(const HostCall& call, const RowBlock& block, float* memory, Progress& progress) {
  Carver carver(memory);
  const ForwardScratch scratch(carver, call.extent, call.block_rows);
  const Index d = call.extent.d, strips = ceil_div(block.rows.size(), kStrip);
  std::array<StripMask, kMaxStrips> masks;
  for (Index s = 0; s < strips; ++s) {
    masks[static_cast<std::size_t>(s)] =
        make_strip_mask(call, block, s, kStrip, scratch.begin + s * kStrip, scratch.end + s * kStrip);
    pack_queries(call, block, s, scratch);
  }
  std::fill_n(scratch.peak, strips * kStrip, -std::numeric_limits<float>::infinity());
  std::fill_n(scratch.sum, strips * kStrip, 0.0f);
  std::fill_n(scratch.out, strips * kStrip * d, 0.0f);

  if (call.dropout) number_rows(call, block, strips * kStrip, scratch.numbers);
  TileMask tile;
  for (Index t = block.tiles.begin; t < block.tiles.end; ++t) {
    if (!progress.proceed()) return;
    classify_tile(call, block, {masks.data(), static_cast<std::size_t>(strips)}, {kPanel, kStrip}, t, tile);
    if (!tile.live) continue;
    copy_keys(call, call.k, block.kv_head, t, scratch.keys);
    pack_key_panels(scratch.keys, d, scratch.key_panels);
    copy_keys(call, call.v, block.kv_head, t, scratch.values);
    for (Index s = 0; s < strips; ++s) {
      if (t + 1 < block.tiles.end) {
        prefetch_keys(call, call.k, block.kv_head, t + 1, s, strips);
        prefetch_keys(call, call.v, block.kv_head, t + 1, s, strips);
      }
      const StripMask& mask = masks[static_cast<std::size_t>(s)];
      const auto& state = tile.state[static_cast<std::size_t>(s)];
      std::array<KeyRun, kMaxPanels> storage;
      const std::span<const KeyRun> runs = live_runs(state, mask, t, storage);
      if (runs.empty()) continue;
      float peak[kStrip], factor[kStrip];
      score_strip(call, block, mask, s, t, state, scratch, peak);
      if (call.dropout) {
        weigh_and_drop(call, runs, t, peak, s, scratch, factor);
      } else {
        weigh_strip(runs, peak, s, All{}, scratch, factor);
      }
      gather(scratch.values, d, runs, scratch.weights, factor, scratch.out + s * d * kStrip);
    }
  }
  merge_rows(call, block, scratch);
}

Index ForwardScratchFloats(const Extents& extent, Index block_rows) {
  Carver counter(nullptr);
  const ForwardScratch scratch(counter, extent, block_rows);
  return counter.used();
}

RegisterBlock Shape() { return {kPanel, kStrip}; }

void ExpOfNonpositive(std::span<const float> x, std::span<float> y) {
  float block[kLanes];
  for (std::size_t i = 0; i < x.size(); i += static_cast<std::size_t>(kLanes)) {
    const std::size_t n = std::min(x.size() - i, static_cast<std::size_t>(kLanes));
    std::fill_n(block, kLanes, 0.0f);
    std::copy_n(x.begin() + static_cast<std::ptrdiff_t>(i), n, block);
    store(exp_nonpositive(load(block)), block);
    std::copy_n(block, n, y.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace plasmid::detail
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace plasmid::detail {

HWY_EXPORT(ForwardBlock);
HWY_EXPORT(ForwardScratchFloats);
HWY_EXPORT(Shape);
HWY_EXPORT(ExpOfNonpositive);

void forward_block(const HostCall& call, const RowBlock& block, float* scratch, Progress& progress) {
  HWY_DYNAMIC_DISPATCH(ForwardBlock)(call, block, scratch, progress);
}
Index forward_scratch_floats(const Extents& extent, Index block_rows) {
  return HWY_DYNAMIC_DISPATCH(ForwardScratchFloats)(extent, block_rows);
}
RegisterBlock register_block() { return HWY_DYNAMIC_DISPATCH(Shape)(); }
void exp_of_nonpositive(std::span<const float> x, std::span<float> y) { HWY_DYNAMIC_DISPATCH(ExpOfNonpositive)(x, y); }

}  // namespace plasmid::detail
#endif
