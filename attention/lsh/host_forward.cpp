// The forward pass of a stretch: all scores of a strip of queries against its chunk and the one before, one softmax,
// one product with the values, and the merge with earlier rounds.
#include <cmath>
#include <limits>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/lsh/host_forward.cpp"
#include <hwy/foreach_target.h>

#include "attention/lsh/host_block-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace plasmid::detail::lsh {
namespace HWY_NAMESPACE {

struct ForwardScratch {
  KeyStream keys;
  Queries queries;
  float* lane_rows;       // the queries, plain; then the results
  float* weights[2];      // [keys][kStrip], of the chunk before and of its own
  float *out, *out_rows;  // [d][kStrip], [kStrip][d]

  ForwardScratch(Carver& carver, const Extent& e) : keys(carver, e, false), queries(carver, e) {
    lane_rows = carver.floats(LanePanels{e.d, e.lanes()}.floats());
    weights[0] = carver.floats(e.keys() * kStrip), weights[1] = carver.floats(e.keys() * kStrip);
    out = carver.floats(e.d * kStrip), out_rows = carver.floats(e.d * kStrip);
  }
};

// Scores of one panel, -inf where a pair does not count; peak [kStrip] becomes the maximum with them. Mask: All, or
// PairMask. R: keys of the panel that exist, or some more.
template <Index R, class Mask>
HWY_NOINLINE void score(const float* keys, const float* q, Index d, const Mask& mask, float* scores, float* peak) {
  Floats s[R][2];
  score_keys<R>(keys, q, d, s);
  Floats peak0 = load(peak), peak1 = load(peak + kLanes);
#pragma GCC unroll 12
  for (Index r = 0; r < R; ++r) {
    if constexpr (!std::is_same_v<Mask, All>) {
      const Floats none = splat(-std::numeric_limits<float>::infinity()), self = splat(kLshSelfScore);
      s[r][0] = hn::IfThenElse(mask.seen(r, 0), hn::IfThenElse(mask.self(r, 0), self, s[r][0]), none);
      s[r][1] = hn::IfThenElse(mask.seen(r, 1), hn::IfThenElse(mask.self(r, 1), self, s[r][1]), none);
    }
    peak0 = hn::Max(peak0, s[r][0]), peak1 = hn::Max(peak1, s[r][1]);
    store(s[r][0], scores + r * kStrip), store(s[r][1], scores + r * kStrip + kLanes);
  }
  store(peak0, peak), store(peak1, peak + kLanes);
}

template <class Mask>
HWY_INLINE void score_any(Index rows, const float* keys, const float* q, Index d, const Mask& mask, float* scores,
                          float* peak) {
  rows == kPanel ? score<kPanel>(keys, q, d, mask, scores, peak) : score<kShortPanel>(keys, q, d, mask, scores, peak);
}

inline void score_block(const LshCall& call, const Queries& queries, Index strip, const KeyBlock& keys,
                        const PanelStates& states, NextRows& next, float* weights, float* peak) {
  const float* q = queries.transposed + strip * call.d * kStrip;
  for (Index p = 0; p * kPanel < keys.count; ++p) {
    next.advance();
    const float* panel = keys.panels + p * kPanel * call.d;
    float* to = weights + p * kPanel * kStrip;
    const PanelState state = states[static_cast<std::size_t>(p)];
    const Index rows = panel_rows(keys.count, p);
    if (state == PanelState::full) {
      score_any(rows, panel, q, call.d, All{}, to, peak);
    } else if (state == PanelState::partial) {
      score_any(rows, panel, q, call.d, PairMask(call, queries, strip, keys, p), to, peak);
    }
  }
}

// Scores become weights relative to the peak; total [kStrip] grows by them.
HWY_NOINLINE void exponentiate(std::span<const KeyRun> runs, const float* peak, float* weights, float* total) {
  const Floats none = splat(-std::numeric_limits<float>::infinity()), zero = hn::Zero(FloatTag());
  Floats origin[2], sum[2];
  for (Index v = 0; v < 2; ++v) {
    origin[v] = load(peak + v * kLanes), sum[v] = load(total + v * kLanes);
    origin[v] = hn::IfThenElse(hn::Eq(origin[v], none), zero, origin[v]);
  }
  for (const KeyRun run : runs)
    for (Index j = run.begin; j < run.end; ++j) {
      float* weight = weights + j * kStrip;
      const Floats w0 = exp_nonpositive(hn::Sub(load(weight), origin[0]));
      const Floats w1 = exp_nonpositive(hn::Sub(load(weight + kLanes), origin[1]));
      sum[0] = hn::Add(sum[0], w0), sum[1] = hn::Add(sum[1], w1);
      store(w0, weight), store(w1, weight + kLanes);
    }
  store(sum[0], total), store(sum[1], total + kLanes);
}

inline void merge_strip(const LshCall& call, Index head, const KeyBlock& own, Index strip, const float* peak,
                        const float* total, const ForwardScratch& scratch) {
  const Index d = call.d, begin = strip * kStrip, end = std::min(begin + kStrip, own.count);
  transpose(scratch.out, kStrip, d, kStrip, scratch.out_rows, d);
  for (Index r = begin; r < end; ++r) {
    const Index lane = r - begin;
    float* found = scratch.out_rows + lane * d;
    scale_row<false>(found, 1 / total[lane], d, found);
    lsh_merge_row(found, peak[lane] + std::log(static_cast<double>(total[lane])), d, call.out.at(own.row[r], head),
                  call.lse.at(own.row[r], head));
  }
}

void ForwardStretch(const LshCall& call, Index head, Range chunks, Index chunk, float* memory) {
  Carver carver(memory);
  const Extent e{chunk, call.d};
  ForwardScratch scratch(carver, e);
  for (Index c = chunks.begin; c < chunks.end; ++c) {
    const bool has_before = scratch.keys.advance(call, head, c);
    const KeyBlock& own = scratch.keys.own();
    const KeyBlock* blocks[2] = {has_before ? &scratch.keys.before() : nullptr, &own};
    pack_queries(call, e, head, own, scratch.lane_rows, scratch.queries);
    const Index strips = ceil_div(own.count, kStrip);
    const Index panels = ceil_div(own.count, kPanel) + (has_before ? ceil_div(blocks[0]->count, kPanel) : 0);
    NextRows next(call, head, c + 1, c + 1 < chunks.end, own, strips * panels);
    for (Index s = 0; s < strips; ++s) {
      float peak[kStrip], total[kStrip] = {};
      std::fill_n(peak, kStrip, -std::numeric_limits<float>::infinity());
      std::array<PanelStates, 2> states;
      for (std::size_t b = 0; b < 2; ++b) {
        if (!blocks[b]) continue;
        classify(call, scratch.queries, own, s, *blocks[b], b == 1, states[b]);
        score_block(call, scratch.queries, s, *blocks[b], states[b], next, scratch.weights[b], peak);
      }
      std::fill_n(scratch.out, call.d * kStrip, 0.0f);
      for (std::size_t b = 0; b < 2; ++b) {
        if (!blocks[b]) continue;
        KeyRuns storage;
        const std::span<const KeyRun> runs = live_keys(states[b], blocks[b]->count, storage);
        exponentiate(runs, peak, scratch.weights[b], total);
        gather(blocks[b]->value_rows, call.d, runs, scratch.weights[b], nullptr, scratch.out);
      }
      merge_strip(call, head, own, s, peak, total, scratch);
    }
  }
}

Index ForwardScratchFloats(Index chunk, Index d) {
  Carver counter(nullptr);
  const ForwardScratch scratch(counter, {chunk, d});
  return counter.used();
}

void MergeRow(const float* part, double part_lse, Index d, float* out, double* lse) {
  if (std::isinf(*lse)) {
    std::copy_n(part, d, out);
    *lse = part_lse;
    return;
  }
  const double apart = part_lse - *lse, low = std::exp(-std::abs(apart));  // in (0, 1]
  const auto weight = static_cast<float>(apart > 0 ? 1 / (1 + low) : low / (1 + low));
  const Floats by = splat(weight);
  Index c = 0;
  for (; c + kLanes <= d; c += kLanes) {
    const Floats before = load(out + c);
    store(hn::NegMulAdd(by, hn::Sub(before, load(part + c)), before), out + c);
  }
  for (; c < d; ++c) out[c] = std::fma(-weight, out[c] - part[c], out[c]);
  *lse = std::max(*lse, part_lse) + std::log1p(low);
}

}  // namespace HWY_NAMESPACE
}  // namespace plasmid::detail::lsh
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace plasmid::detail {
namespace lsh {
HWY_EXPORT(ForwardStretch);
HWY_EXPORT(ForwardScratchFloats);
HWY_EXPORT(MergeRow);
}  // namespace lsh

void lsh_forward_stretch(const LshCall& call, Index head, Range chunks, Index chunk, float* scratch) {
  using namespace lsh;
  HWY_DYNAMIC_DISPATCH(ForwardStretch)(call, head, chunks, chunk, scratch);
}
Index lsh_forward_scratch_floats(Index chunk, Index d) {
  using namespace lsh;
  return HWY_DYNAMIC_DISPATCH(ForwardScratchFloats)(chunk, d);
}
void lsh_merge_row(const float* part, double part_lse, Index d, float* out, double* lse) {
  using namespace lsh;
  HWY_DYNAMIC_DISPATCH(MergeRow)(part, part_lse, d, out, lse);
}

}  // namespace plasmid::detail
#endif
