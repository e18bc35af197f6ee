// Register blocks of the host attention kernels, for the instruction set that foreach_target.h is at. No include guard
// of the usual kind: the file is read once per instruction set.
#if defined(PLASMID_HOST_SIMD_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef PLASMID_HOST_SIMD_INL
#undef PLASMID_HOST_SIMD_INL
#else
#define PLASMID_HOST_SIMD_INL
#endif

#include <hwy/highway.h>

#include <algorithm>

#include "attention/kernel/host_blocks.hpp"

HWY_BEFORE_NAMESPACE();
namespace plasmid::detail {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using FloatTag = hn::ScalableTag<float>;
using IntTag = hn::ScalableTag<std::int32_t>;
using Floats = hn::Vec<FloatTag>;
inline constexpr Index kLanes = static_cast<Index>(hn::MaxLanes(FloatTag()));
inline constexpr Index kStrip = 2 * kLanes;
// 2 R accumulators, two operands and a broadcast fill 16 registers, or 32.
inline constexpr Index kPanel = HWY_TARGET <= HWY_AVX3 ? 12 : 6;
inline constexpr Index kPanels = kTileKeys / kPanel;
static_assert(kStrip >= kMinStrip && kPanel >= kMinPanel && kTileKeys % kPanel == 0);

HWY_INLINE Floats splat(float x) { return hn::Set(FloatTag(), x); }
HWY_INLINE Floats load(const float* from) { return hn::LoadU(FloatTag(), from); }
HWY_INLINE void store(Floats x, float* to) { hn::StoreU(x, FloatTag(), to); }

// e^x for x <= 0: x = n ln 2 + r, e^r = 1 + r + r^2 q(r) with q a minimax polynomial (relative error 3.1e-9), times 2^n
// through the exponent's bits. At the lower bound the exponent's bits are zero, and so is the result. NaN stays NaN.
HWY_INLINE Floats exp_nonpositive(Floats x) {
  const FloatTag tag;
  const Floats to_integer = splat(12582912.0f + 127.0f);  // 1.5 * 2^23: the sum's low bits are n + 127
  x = hn::Max(splat(-88.0f), x);
  const Floats biased = hn::MulAdd(x, splat(1.44269504f), to_integer);
  const Floats n = hn::Sub(biased, to_integer);
#if HWY_NATIVE_FMA
  const Floats r = hn::NegMulAdd(n, splat(0.693147182f), x);
#else
  // ln 2 in two parts, the first so short that its product with n is exact (Cody and Waite).
  const Floats r = hn::NegMulAdd(n, splat(-2.12194440e-4f), hn::NegMulAdd(n, splat(0.693359375f), x));
#endif
  Floats q = hn::MulAdd(splat(1.381446706e-3f), r, splat(8.368780411e-3f));
  q = hn::MulAdd(q, r, splat(4.166839421e-2f));
  q = hn::MulAdd(q, r, splat(1.666652011e-1f));
  q = hn::MulAdd(q, r, splat(0.499999934f));
  const Floats power = hn::BitCast(tag, hn::ShiftLeft<23>(hn::BitCast(IntTag(), biased)));
  return hn::MulAdd(power, hn::MulAdd(hn::Mul(r, r), q, r), power);
}

using PanelSums = Floats[kPanel][2];

// sums = K Q^T for kPanel keys and one strip of rows.   keys [d][kPanel], rows [d][kStrip]
HWY_INLINE void score_panel(const float* HWY_RESTRICT keys, const float* HWY_RESTRICT rows, Index d, PanelSums& sums) {
#pragma GCC unroll 12
  for (Index r = 0; r < kPanel; ++r) sums[r][0] = sums[r][1] = hn::Zero(FloatTag());
  for (Index k = 0; k < d; ++k) {
    const Floats row0 = load(rows + k * kStrip), row1 = load(rows + k * kStrip + kLanes);
#pragma GCC unroll 12
    for (Index r = 0; r < kPanel; ++r) {
      const Floats key = splat(keys[k * kPanel + r]);
      sums[r][0] = hn::MulAdd(key, row0, sums[r][0]);
      sums[r][1] = hn::MulAdd(key, row1, sums[r][1]);
    }
  }
}

struct KeyRun {  // of consecutive keys of a tile
  Index begin, end;
};

// A function of its own, so that nothing but the sums competes for registers; so are its like.
//
// acc[c][row] = acc[c][row] * factor[row] + sum over keys of values[key][c] * weights[key][row], c in [0, R).
//   values: rows `step` apart; weights [kTileKeys][kStrip]; acc [R][kStrip]
template <int R>
HWY_NOINLINE void gather_channels(const float* HWY_RESTRICT values, Index step, std::span<const KeyRun> runs,
                                  const float* HWY_RESTRICT weights, const float* factor, float* HWY_RESTRICT acc) {
  Floats sum[R][2];
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
    sum[r][0] = load(acc + r * kStrip), sum[r][1] = load(acc + r * kStrip + kLanes);
    if (factor) sum[r][0] = hn::Mul(sum[r][0], load(factor)), sum[r][1] = hn::Mul(sum[r][1], load(factor + kLanes));
  }
  for (const KeyRun run : runs) {
    const float* value = values + run.begin * step;
    const float* weight = weights + run.begin * kStrip;
    for (Index j = run.begin; j < run.end; ++j, value += step, weight += kStrip) {
      const Floats weight0 = load(weight), weight1 = load(weight + kLanes);
#pragma GCC unroll 12
      for (int r = 0; r < R; ++r) {
        const Floats x = splat(value[r]);
        sum[r][0] = hn::MulAdd(x, weight0, sum[r][0]);
        sum[r][1] = hn::MulAdd(x, weight1, sum[r][1]);
      }
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) store(sum[r][0], acc + r * kStrip), store(sum[r][1], acc + r * kStrip + kLanes);
}

// The next register block of `left` channels, so that no small one is left over where it can be avoided.
constexpr Index next_channels(Index left) {
  if (kPanel == 12 && (left >= 24 || left == 20 || left == 12)) return 12;
  if (kPanel == 12 && left >= 8) return 8;
  if (kPanel == 6 && (left >= 12 || left == 11 || left == 10 || left == 6)) return 6;
  return left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

// gather_channels over all d channels: O^T += V^T P^T, and dQ^T += K^T dS^T. acc [d][kStrip].
HWY_INLINE void gather(const float* values, Index d, std::span<const KeyRun> runs, const float* weights,
                       const float* factor, float* acc) {
  for (Index c = 0, step = 0; c < d; c += step) {
    step = next_channels(d - c);
    float* to = acc + c * kStrip;
    switch (step) {
      case 12:
        gather_channels<12>(values + c, d, runs, weights, factor, to);
        break;
      case 8:
        gather_channels<8>(values + c, d, runs, weights, factor, to);
        break;
      case 6:
        gather_channels<6>(values + c, d, runs, weights, factor, to);
        break;
      case 4:
        gather_channels<4>(values + c, d, runs, weights, factor, to);
        break;
      case 2:
        gather_channels<2>(values + c, d, runs, weights, factor, to);
        break;
      default:
        gather_channels<1>(values + c, d, runs, weights, factor, to);
    }
  }
}

// The consecutive live keys of a strip in a tile, clipped to the keys that some row sees.
HWY_INLINE std::span<const KeyRun> live_runs(const std::array<PanelState, kMaxPanels>& state, const StripMask& strip,
                                             Index key_tile, std::array<KeyRun, kMaxPanels>& runs) {
  const Index first = std::max<Index>(0, strip.first - key_tile * kTileKeys);
  const Index last = std::min<Index>(kTileKeys, strip.last - key_tile * kTileKeys);
  std::size_t count = 0;
  for (Index p = 0; p < kPanels; ++p) {
    if (state[static_cast<std::size_t>(p)] == PanelState::dead) continue;
    const KeyRun run{std::max(first, p * kPanel), std::min(last, (p + 1) * kPanel)};
    if (count > 0 && runs[count - 1].end == run.begin) {
      runs[count - 1].end = run.end;
    } else {
      runs[count++] = run;
    }
  }
  return {runs.data(), count};
}

struct All {};  // every pair of a full panel counts

// Which pairs of a partial panel count.
class PanelMask {
 public:
  PanelMask(const HostCall& call, const RowBlock& block, const StripMask& strip, Index strip_index, Index first_key)
      : valid_(call.mask->key_valid.empty() ? nullptr : call.mask->key_valid.data()),
        keys_(call.extent.keys),
        first_key_(first_key),
        strip_(strip),
        has_tiles_(call.mask->tile > 0) {
    if (has_tiles_) fill_live(call, block, strip_index, {kPanel, kStrip}, first_key, live_);
  }
  // Lanes of key r of the panel and vector 0 or 1 of the strip.
  HWY_INLINE hn::Mask<FloatTag> operator()(Index r, Index vector) const {
    const IntTag tag;
    const Index key = first_key_ + r;
    if (key >= keys_ || (valid_ && valid_[key] == 0)) return hn::MaskFromVec(hn::Zero(FloatTag()));
    const auto index = hn::Set(tag, static_cast<std::int32_t>(key));
    const auto begin = hn::LoadU(tag, strip_.begin + vector * kLanes),
               end = hn::LoadU(tag, strip_.end + vector * kLanes);
    auto seen = hn::And(hn::Not(hn::VecFromMask(tag, hn::Lt(index, begin))), hn::VecFromMask(tag, hn::Lt(index, end)));
    if (has_tiles_) seen = hn::And(seen, hn::LoadU(tag, live_ + r * kStrip + vector * kLanes));
    return hn::RebindMask(FloatTag(), hn::MaskFromVec(seen));
  }

 private:
  const std::uint8_t* valid_;
  Index keys_, first_key_;
  const StripMask& strip_;
  bool has_tiles_;
  std::int32_t live_[kPanel * kStrip];
};

}  // namespace HWY_NAMESPACE
}  // namespace plasmid::detail
HWY_AFTER_NAMESPACE();

#endif
