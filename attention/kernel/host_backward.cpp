// The backward pass of one block of rows. Weights are recomputed from scores and lse; per key tile the block's share of
// dK and dV is summed apart and added in the block's turn, so that the order of every sum is fixed by the plan alone.
#include <cmath>
#include <limits>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/kernel/host_backward.cpp"
#include <hwy/foreach_target.h>

#include "attention/kernel/host_dropout-inl.hpp"
#include "attention/kernel/host_pack-inl.hpp"
#include "attention/kernel/host_simd-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace plasmid::detail {
namespace HWY_NAMESPACE {

// Strips whose weights are held at once: the longer the sum over rows, the rarer the trips of dK and dV to memory.
inline constexpr Index kGroup = 128 / kStrip;

struct BackwardScratch {
  float *q, *dout;                                   // [strips][d][kStrip], transposed; q times scale
  float *q_rows, *dout_rows;                         // lane panels of the block's rows
  float* dq;                                         // as q
  float *lse, *delta;                                // [rows]
  std::int32_t *begin, *end;                         // [rows]
  float *keys, *key_panels, *values, *value_panels;  // one tile
  float *dk, *dv;                                    // lane panels of one tile's keys
  float *weights, *dscores;                          // [kGroup][kTileKeys][kStrip]: P, dS
  std::uint64_t* numbers;                            // [rows], for dropout

  BackwardScratch(Carver& carver, const Extents& e, Index rows) {
    const Index tile = kTileKeys * e.d;
    q = carver.floats(rows * e.d), dout = carver.floats(rows * e.d), dq = carver.floats(rows * e.d);
    q_rows = carver.floats(LanePanels{e.d, rows}.floats()), dout_rows = carver.floats(LanePanels{e.d, rows}.floats());
    lse = carver.floats(rows), delta = carver.floats(rows);
    begin = carver.ints(rows), end = carver.ints(rows);
    keys = carver.floats(tile), key_panels = carver.floats(tile);
    values = carver.floats(tile), value_panels = carver.floats(tile);
    dk = carver.floats(LanePanels{e.d, kTileKeys}.floats()), dv = carver.floats(LanePanels{e.d, kTileKeys}.floats());
    weights = carver.floats(kGroup * kTileKeys * kStrip), dscores = carver.floats(kGroup * kTileKeys * kStrip);
    numbers = carver.longs(rows);
  }
};

inline void pack_rows(const HostCall& call, const RowBlock& block, Index strips, const BackwardScratch& scratch) {
  const Index d = call.extent.d;
  const LanePanels panels{d, call.block_rows};
  const float dout_scale = call.dropout ? call.dropout->mask.scale() : 1;  // serves dV and dP
  std::fill_n(scratch.q_rows, panels.floats(), 0.0f);
  std::fill_n(scratch.dout_rows, panels.floats(), 0.0f);
  std::fill_n(scratch.lse, strips * kStrip, std::numeric_limits<float>::infinity());
  std::fill_n(scratch.delta, strips * kStrip, 0.0f);
  for (Index row = block.rows.begin; row < block.rows.end; ++row) {
    const Index r = row - block.rows.begin, query = call.row_query(row), head = call.row_head(block.kv_head, row);
    prefetch_ahead(call, block, row, call.dout);
    pack_query(call, block, row, panels, r, scratch.q_rows);
    pack_row(call.dout.at(query, head), dout_scale, panels, r, scratch.dout_rows);
    const float lse = *call.lse_in.at(query, head);
    if (!std::isinf(lse)) scratch.lse[r] = lse;  // a row without keys keeps +inf: every weight is zero
    scratch.delta[r] = *call.delta.at(query, head);
  }
  for (Index s = 0; s < strips; ++s) {
    transpose_strip(scratch.q_rows, panels, s * kStrip, scratch.q + s * d * kStrip);
    transpose_strip(scratch.dout_rows, panels, s * kStrip, scratch.dout + s * d * kStrip);
  }
}

HWY_INLINE Floats weight_of(Floats score, Floats lse) {
  return exp_nonpositive(hn::Min(hn::Zero(FloatTag()), hn::Sub(score, lse)));
}

// weights = P = exp(S - lse) of one panel, zero where `seen` says no. All: every pair counts.
template <class Seen>
HWY_NOINLINE void weigh(const float* keys, const float* q, Index d, const float* lse, const Seen& seen,
                        float* weights) {
  PanelSums s;
  score_panel(keys, q, d, s);
  const Floats lse0 = load(lse), lse1 = load(lse + kLanes);
#pragma GCC unroll 12
  for (Index r = 0; r < kPanel; ++r) {
    Floats weight0 = weight_of(s[r][0], lse0), weight1 = weight_of(s[r][1], lse1);
    if constexpr (!std::is_same_v<Seen, All>)
      weight0 = hn::IfThenElseZero(seen(r, 0), weight0), weight1 = hn::IfThenElseZero(seen(r, 1), weight1);
    store(weight0, weights + r * kStrip), store(weight1, weights + r * kStrip + kLanes);
  }
}

// dscores = dS = P (dP - delta) of one panel, whose first key is `first` of the tile. What `kept` (All, or KeptBits)
// drops has dP = 0, and its weight becomes 0.
template <class Kept>
HWY_NOINLINE void score_gradient(const float* values, const float* dout, Index d, const float* delta, const Kept& kept,
                                 Index first, float* weights, float* dscores) {
  PanelSums dp;
  score_panel(values, dout, d, dp);
  const Floats delta0 = load(delta), delta1 = load(delta + kLanes);
#pragma GCC unroll 12
  for (Index r = 0; r < kPanel; ++r) {
    const Floats weight0 = load(weights + r * kStrip), weight1 = load(weights + r * kStrip + kLanes);
    if constexpr (!std::is_same_v<Kept, All>) {
      const auto kept0 = kept(first + r, 0), kept1 = kept(first + r, 1);
      dp[r][0] = hn::IfThenElseZero(kept0, dp[r][0]), dp[r][1] = hn::IfThenElseZero(kept1, dp[r][1]);
      store(hn::IfThenElseZero(kept0, weight0), weights + r * kStrip);
      store(hn::IfThenElseZero(kept1, weight1), weights + r * kStrip + kLanes);
    }
    store(hn::Mul(weight0, hn::Sub(dp[r][0], delta0)), dscores + r * kStrip);
    store(hn::Mul(weight1, hn::Sub(dp[r][1], delta1)), dscores + r * kStrip + kLanes);
  }
}

// P, as dropout leaves it, and dS of one strip against one tile.
template <class Kept>
inline void weigh_strip(const HostCall& call, const RowBlock& block, const StripMask& mask, Index strip, Index key_tile,
                        const std::array<PanelState, kMaxPanels>& state, const Kept& kept,
                        const BackwardScratch& scratch, float* weights, float* dscores) {
  const Index d = call.extent.d;
  const float *q = scratch.q + strip * d * kStrip, *dout = scratch.dout + strip * d * kStrip;
  const float *lse = scratch.lse + strip * kStrip, *delta = scratch.delta + strip * kStrip;
  for (Index p = 0; p < kPanels; ++p) {
    const PanelState panel = state[static_cast<std::size_t>(p)];
    if (panel == PanelState::dead) continue;
    float* to = weights + p * kPanel * kStrip;
    const float* keys = scratch.key_panels + p * kPanel * d;
    if (panel == PanelState::full) {
      weigh(keys, q, d, lse, All{}, to);
    } else {
      weigh(keys, q, d, lse, PanelMask(call, block, mask, strip, key_tile * kTileKeys + p * kPanel), to);
    }
    score_gradient(scratch.value_panels + p * kPanel * d, dout, d, delta, kept, p * kPanel, to,
                   dscores + p * kPanel * kStrip);
  }
}

HWY_NOINLINE void weigh_and_drop(const HostCall& call, const RowBlock& block, const StripMask& mask, Index strip,
                                 Index key_tile, const std::array<PanelState, kMaxPanels>& state,
                                 std::span<const KeyRun> runs, const BackwardScratch& scratch, float* weights,
                                 float* dscores) {
  KeptBits kept;
  kept.draw(call, scratch.numbers + strip * kStrip, key_tile, runs);
  weigh_strip(call, block, mask, strip, key_tile, state, kept, scratch, weights, dscores);
}

// acc[key][c] += sum over rows of weights[key][row] * rows[row][c], for kPanel keys and `vectors` vectors of channels.
//   strips: which of the group count; weights of strip s at s kTileKeys kStrip; rows of strip s at s kStrip vectors
//   kLanes
template <int vectors>
HWY_NOINLINE void gather_rows(const float* HWY_RESTRICT weights, const float* HWY_RESTRICT rows,
                              std::span<const Index> strips, float* HWY_RESTRICT acc) {
  constexpr Index width = vectors * kLanes;
  Floats sum[kPanel][vectors];
#pragma GCC unroll 12
  for (Index r = 0; r < kPanel; ++r) {
    sum[r][0] = load(acc + r * width);
    if (vectors == 2) sum[r][vectors - 1] = load(acc + r * width + kLanes);
  }
  for (const Index s : strips) {
    const float *weight = weights + s * kTileKeys * kStrip, *row = rows + s * kStrip * width;
    for (Index i = 0; i < kStrip; ++i, ++weight, row += width) {
      const Floats row0 = load(row), row1 = load(row + (vectors - 1) * kLanes);
#pragma GCC unroll 12
      for (Index r = 0; r < kPanel; ++r) {
        const Floats w = splat(weight[r * kStrip]);
        sum[r][0] = hn::MulAdd(w, row0, sum[r][0]);
        if (vectors == 2) sum[r][vectors - 1] = hn::MulAdd(w, row1, sum[r][vectors - 1]);
      }
    }
  }
#pragma GCC unroll 12
  for (Index r = 0; r < kPanel; ++r) {
    store(sum[r][0], acc + r * width);
    if (vectors == 2) store(sum[r][vectors - 1], acc + r * width + kLanes);
  }
}

// The group's share of dK (weights = dS, rows = scale q) or dV (weights = P, rows = dout).
inline void gather_keys(const HostCall& call, const TileMask& tile, Range group, const float* weights,
                        const float* rows, float* acc) {
  const LanePanels row_panels{call.extent.d, call.block_rows}, key_panels{call.extent.d, kTileKeys};
  for (Index j = 0; j < row_panels.count(); ++j) {
    const Index width = row_panels.width(j);
    const float* from = rows + row_panels.offset(j) + group.begin * kStrip * width;
    for (Index p = 0; p < kPanels; ++p) {
      Index live[kGroup];
      std::size_t count = 0;
      for (Index s = group.begin; s < group.end; ++s)
        if (tile.state[static_cast<std::size_t>(s)][static_cast<std::size_t>(p)] != PanelState::dead)
          live[count++] = s - group.begin;
      if (count == 0) continue;
      float* to = acc + key_panels.offset(j) + p * kPanel * width;
      if (width == kStrip) {
        gather_rows<2>(weights + p * kPanel * kStrip, from, {live, count}, to);
      } else {
        gather_rows<1>(weights + p * kPanel * kStrip, from, {live, count}, to);
      }
    }
  }
}

// Adds one tile's sums to the rows of dK or dV.
inline void add_keys(const HostCall& call, Index kv_head, Index key_tile, const float* from, const MutableRows& to) {
  const LanePanels panels{call.extent.d, kTileKeys};
  const Index first = key_tile * kTileKeys, count = std::min(kTileKeys, call.extent.keys - first);
  for (Index r = 0; r < count; ++r)
    for (Index j = 0; j < panels.count(); ++j) {
      const float* part = from + panels.offset(j) + r * panels.width(j);
      float* row = to.at(first + r, kv_head) + j * kStrip;
      for (Index c = 0; c < panels.channels(j); ++c) row[c] += part[c];
    }
}

// dq += scale * dS K of the block's rows. q_rows is free by now and takes the rows turned back.
inline void add_queries(const HostCall& call, const RowBlock& block, const BackwardScratch& scratch) {
  const Index d = call.extent.d;
  for (Index row = block.rows.begin; row < block.rows.end; ++row) {
    const Index r = row - block.rows.begin, lane = r % kStrip;
    prefetch_ahead(call, block, row, call.dq);
    if (lane == 0) transpose(scratch.dq + r * d, kStrip, d, kStrip, scratch.q_rows, d);
    float* dq = call.dq.at(call.row_query(row), call.row_head(block.kv_head, row));
    const float* found = scratch.q_rows + lane * d;
    for (Index c = 0; c < d; ++c) dq[c] += call.scale * found[c];
  }
}

void BackwardTile(const HostCall& call, const RowBlock& block, std::span<const StripMask> masks, const TileMask& tile,
                  Index t, const BackwardScratch& scratch) {
  const Index d = call.extent.d, strips = static_cast<Index>(masks.size());
  copy_keys(call, call.k, block.kv_head, t, scratch.keys);
  pack_key_panels(scratch.keys, d, scratch.key_panels);
  copy_keys(call, call.v, block.kv_head, t, scratch.values);
  pack_key_panels(scratch.values, d, scratch.value_panels);
  std::fill_n(scratch.dk, LanePanels{d, kTileKeys}.floats(), 0.0f);
  std::fill_n(scratch.dv, LanePanels{d, kTileKeys}.floats(), 0.0f);
  for (Index first = 0; first < strips; first += kGroup) {
    const Range group{first, std::min(first + kGroup, strips)};
    for (Index s = group.begin; s < group.end; ++s) {
      if (t + 1 < block.tiles.end) {
        prefetch_keys(call, call.k, block.kv_head, t + 1, s, strips);
        prefetch_keys(call, call.v, block.kv_head, t + 1, s, strips);
      }
      prefetch_keys(call, call.dk, block.kv_head, t, s, strips);
      prefetch_keys(call, call.dv, block.kv_head, t, s, strips);
      const StripMask& mask = masks[static_cast<std::size_t>(s)];
      const auto& state = tile.state[static_cast<std::size_t>(s)];
      std::array<KeyRun, kMaxPanels> storage;
      const std::span<const KeyRun> runs = live_runs(state, mask, t, storage);
      if (runs.empty()) continue;
      float* weights = scratch.weights + (s - first) * kTileKeys * kStrip;
      float* dscores = scratch.dscores + (s - first) * kTileKeys * kStrip;
      if (call.dropout) {
        weigh_and_drop(call, block, mask, s, t, state, runs, scratch, weights, dscores);
      } else {
        weigh_strip(call, block, mask, s, t, state, All{}, scratch, weights, dscores);
      }
      gather(scratch.keys, d, runs, dscores, nullptr, scratch.dq + s * d * kStrip);
    }
    gather_keys(call, tile, group, scratch.weights, scratch.dout_rows, scratch.dv);
    gather_keys(call, tile, group, scratch.dscores, scratch.q_rows, scratch.dk);
  }
}

void BackwardBlock(const HostCall& call, const RowBlock& block, float* memory, Progress& progress) {
  Carver carver(memory);
  const BackwardScratch scratch(carver, call.extent, call.block_rows);
  const Index d = call.extent.d, strips = ceil_div(block.rows.size(), kStrip);
  std::array<StripMask, kMaxStrips> storage;
  for (Index s = 0; s < strips; ++s)
    storage[static_cast<std::size_t>(s)] =
        make_strip_mask(call, block, s, kStrip, scratch.begin + s * kStrip, scratch.end + s * kStrip);
  const std::span<const StripMask> masks(storage.data(), static_cast<std::size_t>(strips));
  pack_rows(call, block, strips, scratch);
  if (call.dropout) number_rows(call, block, strips * kStrip, scratch.numbers);
  std::fill_n(scratch.dq, strips * kStrip * d, 0.0f);

  TileMask tile;
  for (Index t = block.tiles.begin; t < block.tiles.end; ++t) {
    if (!progress.proceed()) return;
    classify_tile(call, block, masks, {kPanel, kStrip}, t, tile);
    if (tile.live) BackwardTile(call, block, masks, tile, t, scratch);
    if (!progress.await_turn(t)) return;
    if (tile.live) {
      add_keys(call, block.kv_head, t, scratch.dk, call.dk);
      add_keys(call, block.kv_head, t, scratch.dv, call.dv);
    }
    progress.pass_turn(t);
  }
  add_queries(call, block, scratch);
}

Index BackwardScratchFloats(const Extents& extent, Index block_rows) {
  Carver counter(nullptr);
  const BackwardScratch scratch(counter, extent, block_rows);
  return counter.used();
}

}  // namespace HWY_NAMESPACE
}  // namespace plasmid::detail
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace plasmid::detail {

HWY_EXPORT(BackwardBlock);
HWY_EXPORT(BackwardScratchFloats);

void backward_block(const HostCall& call, const RowBlock& block, float* scratch, Progress& progress) {
  HWY_DYNAMIC_DISPATCH(BackwardBlock)(call, block, scratch, progress);
}
Index backward_scratch_floats(const Extents& extent, Index block_rows) {
  return HWY_DYNAMIC_DISPATCH(BackwardScratchFloats)(extent, block_rows);
}

}  // namespace plasmid::detail
#endif
