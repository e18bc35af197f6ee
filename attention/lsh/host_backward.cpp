// The backward pass of a stretch: one pass over each round, with weights P = exp(score - lse) of all rounds together,
// which is what the chain rule through the rounds' own softmaxes and their merge comes to.
#include <cmath>
#include <limits>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/lsh/host_backward.cpp"
#include <hwy/foreach_target.h>

#include "attention/lsh/host_block-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace plasmid::detail::lsh {
namespace HWY_NAMESPACE {

struct BackwardScratch {
  KeyStream keys;
  Queries queries;
  float *q_rows, *dout_rows;          // lane panels of the chunk's queries; the former times scale
  float* dout;                        // [strips][d][kStrip]
  float *lse_high, *lse_low, *delta;  // [lanes]; lse in two parts
  float *weights[2], *dscores[2];     // [strips][keys][kStrip]: P, dS, of the chunk before and of its own
  float *dq, *dq_rows;                // [d][kStrip], [kStrip][d]
  float *dk, *dv;                     // lane panels of one block's keys
  float* dk_row;                      // [d]
  float* sums[2];                     // [2 (dqk, dv)][chunk][d], of the key blocks in turn: A, then A + B
  float* part;                        // likewise: B
  float* wrap;                        // likewise: B of the last chunk of the document at work

  BackwardScratch(Carver& carver, const Extent& e) : keys(carver, e, true), queries(carver, e) {
    const LanePanels lanes{e.d, e.lanes()}, columns{e.d, e.keys()};
    q_rows = carver.floats(lanes.floats()), dout_rows = carver.floats(lanes.floats());
    dout = carver.floats(e.lanes() * e.d);
    lse_high = carver.floats(e.lanes()), lse_low = carver.floats(e.lanes()), delta = carver.floats(e.lanes());
    for (float** both : {weights, dscores})
      for (int b = 0; b < 2; ++b) both[b] = carver.floats(e.strips() * e.keys() * kStrip);
    dq = carver.floats(e.d * kStrip), dq_rows = carver.floats(e.d * kStrip);
    dk = carver.floats(columns.floats()), dv = carver.floats(columns.floats()), dk_row = carver.floats(e.d);
    for (float** one : {&sums[0], &sums[1], &part, &wrap}) *one = carver.floats(2 * e.chunk * e.d);
  }
};

inline void pack_gradients(const LshCall& call, const Extent& e, Index head, const KeyBlock& own,
                           const BackwardScratch& scratch) {
  const LanePanels panels{e.d, e.lanes()};
  const Index strips = ceil_div(own.count, kStrip);
  for (Index r = 0; r < own.count; ++r) {
    const Index row = own.row[r];
    pack_row(call.dout.at(row, head), 1, panels, r, scratch.dout_rows);
    const double lse = *call.lse_in.at(row, head);
    scratch.lse_high[r] = static_cast<float>(lse);
    scratch.lse_low[r] = static_cast<float>(lse - scratch.lse_high[r]);
    scratch.delta[r] = *call.delta.at(row, head);
  }
  for (Index j = 0; j < panels.count(); ++j)
    std::fill(scratch.dout_rows + panels.offset(j) + own.count * panels.width(j),
              scratch.dout_rows + panels.offset(j) + strips * kStrip * panels.width(j), 0.0f);
  for (Index r = own.count; r < strips * kStrip; ++r)  // no weight, no gradient
    scratch.lse_high[r] = std::numeric_limits<float>::infinity(), scratch.lse_low[r] = scratch.delta[r] = 0;
  for (Index s = 0; s < strips; ++s)
    transpose_strip(scratch.dout_rows, panels, s * kStrip, scratch.dout + s * e.d * kStrip);
}

HWY_INLINE Floats weight_of(Floats score, Floats high, Floats low) {
  return exp_nonpositive(hn::Min(hn::Zero(FloatTag()), hn::Sub(hn::Sub(score, high), low)));
}

// weights = P of one panel. Mask: All, or PairMask.
template <Index R, class Mask>
HWY_NOINLINE void weigh(const float* keys, const float* q, Index d, const float* high, const float* low,
                        const Mask& mask, float* weights) {
  Floats s[R][2];
  score_keys<R>(keys, q, d, s);
  const Floats high0 = load(high), high1 = load(high + kLanes), low0 = load(low), low1 = load(low + kLanes);
#pragma GCC unroll 12
  for (Index r = 0; r < R; ++r) {
    if constexpr (!std::is_same_v<Mask, All>) {
      const Floats self = splat(kLshSelfScore);
      s[r][0] = hn::IfThenElse(mask.self(r, 0), self, s[r][0]),
      s[r][1] = hn::IfThenElse(mask.self(r, 1), self, s[r][1]);
    }
    Floats weight0 = weight_of(s[r][0], high0, low0), weight1 = weight_of(s[r][1], high1, low1);
    if constexpr (!std::is_same_v<Mask, All>)
      weight0 = hn::IfThenElseZero(mask.seen(r, 0), weight0), weight1 = hn::IfThenElseZero(mask.seen(r, 1), weight1);
    store(weight0, weights + r * kStrip), store(weight1, weights + r * kStrip + kLanes);
  }
}

// dscores = dS = P (dP - delta) of one panel, zero for a token with itself.
template <Index R, class Mask>
HWY_NOINLINE void score_gradient(const float* values, const float* dout, Index d, const float* delta, const Mask& mask,
                                 const float* weights, float* dscores) {
  Floats dp[R][2];
  score_keys<R>(values, dout, d, dp);
  const Floats delta0 = load(delta), delta1 = load(delta + kLanes);
#pragma GCC unroll 12
  for (Index r = 0; r < R; ++r) {
    Floats ds0 = hn::Mul(load(weights + r * kStrip), hn::Sub(dp[r][0], delta0));
    Floats ds1 = hn::Mul(load(weights + r * kStrip + kLanes), hn::Sub(dp[r][1], delta1));
    if constexpr (!std::is_same_v<Mask, All>)
      ds0 = hn::IfThenZeroElse(mask.self(r, 0), ds0), ds1 = hn::IfThenZeroElse(mask.self(r, 1), ds1);
    store(ds0, dscores + r * kStrip), store(ds1, dscores + r * kStrip + kLanes);
  }
}

template <class Mask>
HWY_INLINE void weigh_any(Index rows, const float* keys, const float* q, const float* values, const float* dout,
                          Index d, const float* high, const float* low, const float* delta, const Mask& mask,
                          float* weights, float* dscores) {
  if (rows == kPanel) {
    weigh<kPanel>(keys, q, d, high, low, mask, weights);
    score_gradient<kPanel>(values, dout, d, delta, mask, weights, dscores);
  } else {
    weigh<kShortPanel>(keys, q, d, high, low, mask, weights);
    score_gradient<kShortPanel>(values, dout, d, delta, mask, weights, dscores);
  }
}

// P and dS of one strip against one block.
inline void weigh_block(const LshCall& call, const BackwardScratch& scratch, Index strip, const KeyBlock& keys,
                        const PanelStates& states, NextRows& next, float* weights, float* dscores) {
  const Index d = call.d;
  const float *q = scratch.queries.transposed + strip * d * kStrip, *dout = scratch.dout + strip * d * kStrip;
  const float *high = scratch.lse_high + strip * kStrip, *low = scratch.lse_low + strip * kStrip,
              *delta = scratch.delta + strip * kStrip;
  for (Index p = 0; p * kPanel < keys.count; ++p) {
    next.advance();
    const PanelState state = states[static_cast<std::size_t>(p)];
    if (state == PanelState::dead) continue;
    const float *panel = keys.panels + p * kPanel * d, *values = keys.value_panels + p * kPanel * d;
    float *weight = weights + p * kPanel * kStrip, *dscore = dscores + p * kPanel * kStrip;
    const Index rows = panel_rows(keys.count, p);
    if (state == PanelState::full) {
      weigh_any(rows, panel, q, values, dout, d, high, low, delta, All{}, weight, dscore);
    } else {
      const PairMask mask(call, scratch.queries, strip, keys, p);
      weigh_any(rows, panel, q, values, dout, d, high, low, delta, mask, weight, dscore);
    }
  }
}

// to[key][c] = sum over rows of weights[key][row] * rows[row][c], for R keys and `vectors` vectors of channels.
//   strips: those that count; weights of strip s at s * weight_step; rows of strip s at s * kStrip * vectors * kLanes
template <int vectors, Index R>
HWY_NOINLINE void gather_rows(const float* HWY_RESTRICT weights, Index weight_step, const float* HWY_RESTRICT rows,
                              std::span<const Index> strips, float* HWY_RESTRICT to) {
  constexpr Index width = vectors * kLanes;
  Floats sum[R][vectors];
#pragma GCC unroll 12
  for (Index r = 0; r < R; ++r) {
    sum[r][0] = hn::Zero(FloatTag());
    if (vectors == 2) sum[r][vectors - 1] = hn::Zero(FloatTag());
  }
  for (const Index s : strips) {
    const float *weight = weights + s * weight_step, *row = rows + s * kStrip * width;
    for (Index i = 0; i < kStrip; ++i, ++weight, row += width) {
      const Floats row0 = load(row), row1 = load(row + (vectors - 1) * kLanes);
#pragma GCC unroll 12
      for (Index r = 0; r < R; ++r) {
        const Floats w = splat(weight[r * kStrip]);
        sum[r][0] = hn::MulAdd(w, row0, sum[r][0]);
        if (vectors == 2) sum[r][vectors - 1] = hn::MulAdd(w, row1, sum[r][vectors - 1]);
      }
    }
  }
#pragma GCC unroll 12
  for (Index r = 0; r < R; ++r) {
    store(sum[r][0], to + r * width);
    if (vectors == 2) store(sum[r][vectors - 1], to + r * width + kLanes);
  }
}

using StripStates = std::array<PanelStates, static_cast<std::size_t>(ceil_div(kMaxLshChunk, kMinStrip))>;

// dK (weights = dS, rows = scale q) or dV (weights = P, rows = dout) of one block's keys, in lane panels.
inline void gather_keys(const Extent& e, const StripStates& states, Index strips, Index count, const float* weights,
                        const float* rows, float* to) {
  const LanePanels row_panels{e.d, e.lanes()}, key_panels{e.d, e.keys()};
  for (Index p = 0; p * kPanel < count; ++p) {
    std::array<Index, std::tuple_size_v<StripStates>> live;
    std::size_t some = 0;
    const Index rows_of = panel_rows(count, p);
    for (Index s = 0; s < strips; ++s)
      if (states[static_cast<std::size_t>(s)][static_cast<std::size_t>(p)] != PanelState::dead) live[some++] = s;
    for (Index j = 0; j < row_panels.count(); ++j) {
      const Index width = row_panels.width(j);
      const float* from = rows + row_panels.offset(j);
      float* panel = to + key_panels.offset(j) + p * kPanel * width;
      const bool wide = width == kStrip;
      const auto gather = rows_of == kPanel ? (wide ? gather_rows<2, kPanel> : gather_rows<1, kPanel>)
                                            : (wide ? gather_rows<2, kShortPanel> : gather_rows<1, kShortPanel>);
      gather(weights + p * kPanel * kStrip, e.keys() * kStrip, from, {live.data(), some}, panel);
    }
  }
}

inline void plain_row(const LanePanels& panels, const float* from, Index r, float* to) {
  for (Index j = 0; j < panels.count(); ++j)
    std::memcpy(to + j * kStrip, from + panels.offset(j) + r * panels.width(j),
                static_cast<std::size_t>(panels.channels(j)) * sizeof(float));
}

// What a block's keys get from the chunk's queries: dqk (+)= (dk - key (key . dk)) / |qk|, dv = dv.
template <bool accumulate>
inline void put_keys(const Extent& e, const KeyBlock& keys, const BackwardScratch& scratch, float* sums) {
  const LanePanels panels{e.d, e.keys()};
  const Index d = e.d;
  for (Index r = 0; r < keys.count; ++r) {
    const float* key = keys.rows + r * d;
    plain_row(panels, scratch.dk, r, scratch.dk_row);
    plain_row(panels, scratch.dv, r, sums + (e.chunk + r) * d);
    scale_row<true>(key, -dot_rows(key, scratch.dk_row, d), d, scratch.dk_row);
    scale_row<accumulate>(scratch.dk_row, keys.inverse_norm[r], d, sums + r * d);
  }
}

// dqk of the chunk's queries, as queries: sums = scale dS K.
inline void put_queries(const LshCall& call, Index strip, Index count, const BackwardScratch& scratch, float* sums) {
  const Index d = call.d, begin = strip * kStrip, end = std::min(begin + kStrip, count);
  transpose(scratch.dq, kStrip, d, kStrip, scratch.dq_rows, d);
  for (Index r = begin; r < end; ++r) scale_row<false>(scratch.dq_rows + (r - begin) * d, call.scale, d, sums + r * d);
}

inline void add_part(const Extent& e, Index count, const float* part, float* sums) {
  scale_row<true>(part, 1, count * e.d, sums);
  scale_row<true>(part + e.chunk * e.d, 1, count * e.d, sums + e.chunk * e.d);
}

inline void add_to_rows(const LshCall& call, const Extent& e, Index head, const std::int32_t* rows, Index count,
                        const float* sums) {
  for (Index r = 0; r < count; ++r) {
    scale_row<true>(sums + r * e.d, 1, e.d, call.dqk.at(rows[r], head));
    scale_row<true>(sums + (e.chunk + r) * e.d, 1, e.d, call.dv.at(rows[r], head));
  }
}

class BackwardStretch {
 public:
  BackwardStretch(const LshCall& call, const LshSplits& splits, Index head, Range chunks, Index chunk, float* memory)
      : call_(call),
        splits_(splits),
        head_(head),
        chunks_(chunks),
        e_{chunk, call.d},
        carver_(memory),
        s_(carver_, e_) {}

  void run() {
    for (Index c = chunks_.begin; c < chunks_.end; ++c) {
      const bool has_before = s_.keys.advance(call_, head_, c);
      attend(c, has_before);
      if (has_before) give_back(c);
      keep(c);
    }
  }

 private:
  // sums of own = A; part = B of the chunk before.
  void attend(Index c, bool has_before) {
    const KeyBlock& own = s_.keys.own();
    const KeyBlock* blocks[2] = {has_before ? &s_.keys.before() : nullptr, &own};
    float* sums = s_.sums[s_.keys.own_index()];
    pack_queries(call_, e_, head_, own, s_.q_rows, s_.queries);
    pack_gradients(call_, e_, head_, own, s_);
    const Index strips = ceil_div(own.count, kStrip), step = e_.keys() * kStrip;
    const Index panels = ceil_div(own.count, kPanel) + (has_before ? ceil_div(blocks[0]->count, kPanel) : 0);
    NextRows next(call_, head_, c + 1, c + 1 < chunks_.end, own, strips * panels);
    for (Index s = 0; s < strips; ++s) {
      std::fill_n(s_.dq, call_.d * kStrip, 0.0f);
      for (std::size_t b = 0; b < 2; ++b) {
        if (!blocks[b]) continue;
        PanelStates& states = states_[b][static_cast<std::size_t>(s)];
        classify(call_, s_.queries, own, s, *blocks[b], b == 1, states);
        weigh_block(call_, s_, s, *blocks[b], states, next, s_.weights[b] + s * step, s_.dscores[b] + s * step);
        KeyRuns storage;
        const std::span<const KeyRun> runs = live_keys(states, blocks[b]->count, storage);
        gather(blocks[b]->rows, call_.d, runs, s_.dscores[b] + s * step, nullptr, s_.dq);
      }
      put_queries(call_, s, own.count, s_, sums);
    }
    for (std::size_t b = 0; b < 2; ++b) {
      if (!blocks[b]) continue;
      gather_keys(e_, states_[b], strips, blocks[b]->count, s_.weights[b], s_.dout_rows, s_.dv);
      gather_keys(e_, states_[b], strips, blocks[b]->count, s_.dscores[b], s_.q_rows, s_.dk);
      if (b == 0) {
        put_keys<false>(e_, *blocks[b], s_, s_.part);
      } else {
        put_keys<true>(e_, *blocks[b], s_, sums);
      }
    }
  }

  // B goes to the chunk before, wherever its A is.
  void give_back(Index c) {
    const LshChunk& chunk = call_.chunk(c);
    const Index count = s_.keys.before().count, floats = 2 * e_.chunk * e_.d;
    if (const LshHalo* halo = call_.halo(c); halo && halo->other_rows) {
      add_to_rows(call_, e_, head_, s_.keys.before().row, count, s_.part);
    } else if (const Index split = splits_.find(chunk.previous, halo != nullptr); split >= 0) {
      std::copy_n(s_.part, floats, splits_.of(head_, split, true));
    } else if (chunk.wraps) {
      std::copy_n(s_.part, floats, s_.wrap);
    } else {  // c - 1, which waits for this
      float* sums = s_.sums[1 - s_.keys.own_index()];
      add_part(e_, count, s_.part, sums);
      add_to_rows(call_, e_, head_, s_.keys.before().row, count, sums);
    }
  }

  // A waits for the next chunk, or is done.
  void keep(Index c) {
    const LshChunk& chunk = call_.chunk(c);
    const KeyBlock& own = s_.keys.own();
    float* sums = s_.sums[s_.keys.own_index()];
    if (const Index split = splits_.find(c, false); split >= 0) {
      std::copy_n(sums, 2 * e_.chunk * e_.d, splits_.of(head_, split, false));
      return;
    }
    const bool to_first = chunk.next >= 0 && chunk.next <= c,
               here = chunk.next >= call_.own.begin && chunk.next < call_.own.end;
    if (!to_first && here) return;
    if (to_first && here && !call_.halo(chunk.next) && call_.rows_before(head_, chunk.next))
      add_part(e_, own.count, s_.wrap, sums);
    add_to_rows(call_, e_, head_, own.row, own.count, sums);
  }

  const LshCall& call_;
  const LshSplits& splits_;
  Index head_;
  Range chunks_;
  Extent e_;
  Carver carver_;
  BackwardScratch s_;
  std::array<StripStates, 2> states_;
};

void RunBackwardStretch(const LshCall& call, const LshSplits& splits, Index head, Range chunks, Index chunk,
                        float* memory) {
  BackwardStretch(call, splits, head, chunks, chunk, memory).run();
}

Index BackwardScratchFloats(Index chunk, Index d) {
  Carver counter(nullptr);
  const BackwardScratch scratch(counter, {chunk, d});
  return counter.used();
}

void AddSplit(const LshCall& call, const LshSplits& splits, Index head, Index split, Index chunk) {
  const LshSplit& at = splits.list[static_cast<std::size_t>(split)];
  const Extent e{chunk, call.d};
  const Index count = call.chunk(at.chunk).places.size();
  float *own = splits.of(head, split, false), *next = splits.of(head, split, true);
  if (at.wrap) {
    add_to_rows(call, e, head, call.rows_before(head, call.chunk(at.chunk).next), count, next);
  } else {
    add_part(e, count, next, own);
    add_to_rows(call, e, head, call.rows_of_chunk(head, at.chunk), count, own);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace plasmid::detail::lsh
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace plasmid::detail {
namespace lsh {
HWY_EXPORT(RunBackwardStretch);
HWY_EXPORT(BackwardScratchFloats);
HWY_EXPORT(AddSplit);
}  // namespace lsh

void lsh_backward_stretch(const LshCall& call, const LshSplits& splits, Index head, Range chunks, Index chunk,
                          float* scratch) {
  using namespace lsh;
  HWY_DYNAMIC_DISPATCH(RunBackwardStretch)(call, splits, head, chunks, chunk, scratch);
}
Index lsh_backward_scratch_floats(Index chunk, Index d) {
  using namespace lsh;
  return HWY_DYNAMIC_DISPATCH(BackwardScratchFloats)(chunk, d);
}
void lsh_add_split(const LshCall& call, const LshSplits& splits, Index head, Index split, Index chunk) {
  using namespace lsh;
  HWY_DYNAMIC_DISPATCH(AddSplit)(call, splits, head, split, chunk);
}

}  // namespace plasmid::detail
#endif
