#include <algorithm>
#include <array>
#include <cmath>

#include "runtime/device/parallel_for.hpp"
#include "runtime/ops/rope.hpp"
#include "runtime/ops/rows.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/ops/rope_host.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "runtime/ops/simd-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace plasmid::ops {
namespace HWY_NAMESPACE {

// cosine[c] and sine[c] of position * frequency[c], all in f64 and rounded once. Highway's Sin and Cos reach angles of
// 39000; whole turns are taken off before, with 2 pi in two parts.
void turn(double position, const double* frequency, Index count, float* cosine, float* sine) {
  const hn::CappedTag<double, 8> d;
  constexpr double kTurn = 6.283185307179586, kTurnRest = 2.4492935982947064e-16;
  const Index step = static_cast<Index>(hn::Lanes(d));
  HWY_ALIGN double buffer[8] = {}, cosines[8], sines[8];
  for (Index c = 0; c < count; c += step) {
    const Index n = HWY_MIN(step, count - c);
    for (Index i = 0; i < n; ++i) buffer[i] = frequency[c + i];
    const auto angle = hn::Mul(hn::Load(d, buffer), hn::Set(d, position));
    const auto turns = hn::Round(hn::Mul(angle, hn::Set(d, 1 / kTurn)));
    const auto rest = hn::NegMulAdd(turns, hn::Set(d, kTurnRest), hn::NegMulAdd(turns, hn::Set(d, kTurn), angle));
    hn::Store(hn::Cos(d, rest), d, cosines);
    hn::Store(hn::Sin(d, rest), d, sines);
    for (Index i = 0; i < n; ++i)
      cosine[c + i] = static_cast<float>(cosines[i]), sine[c + i] = static_cast<float>(sines[i]);
  }
}

// u, w [count]: a stretch of the two halves of one head of one token, in place.
void rotate(float* u, float* w, const float* cosine, const float* sine, Index count) {
  for_each_vector(count, [&](Index c, Index n) HWY_ATTR {
    const V a = load(u + c, n), b = load(w + c, n), cos = load(cosine + c, n), sin = load(sine + c, n);
    store(hn::NegMulAdd(b, sin, hn::Mul(a, cos)), u + c, n);
    store(hn::MulAdd(a, sin, hn::Mul(b, cos)), w + c, n);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace plasmid::ops
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace plasmid::ops {
namespace {

HWY_EXPORT(turn);
HWY_EXPORT(rotate);

constexpr Index kStretch = 128;  // channels at a time, so that no memory is taken

}  // namespace

void rope(View x, ConstView position, double base, bool inverse, Stream&) {
  const Index tokens = x.dim(0), heads = x.dim(1), d = x.dim(2), half = d / 2;
  PLASMID_CHECK(d % 2 == 0) << "a head of " << d << " channels has no halves";
  PLASMID_CHECK(d == 0 || x.step(2) == 1) << "the last dim is strided by " << x.step(2);
  const std::int32_t* positions = vector_of<std::int32_t>(position, tokens);
  float* const data = x.ptr<float>();
  parallel_for(tokens, ceil_div(2048, heads * d + 1), [&](Index begin, Index end) {
    std::array<double, kStretch> frequency;
    std::array<float, kStretch> cosine, sine;
    for (Index first = 0; first < half; first += kStretch) {
      const Index count = std::min(kStretch, half - first);
      for (Index c = 0; c < count; ++c)
        frequency[static_cast<std::size_t>(c)] =
            std::pow(base, -2.0 * static_cast<double>(first + c) / static_cast<double>(d));
      for (Index t = begin; t < end; ++t) {
        const double signed_position = inverse ? -positions[t] : positions[t];
        HWY_DYNAMIC_DISPATCH(turn)(signed_position, frequency.data(), count, cosine.data(), sine.data());
        for (Index h = 0; h < heads; ++h) {
          float* const u = data + t * x.step(0) + h * x.step(1) + first;
          HWY_DYNAMIC_DISPATCH(rotate)(u, u + half, cosine.data(), sine.data(), count);
        }
      }
    }
  });
}

}  // namespace plasmid::ops
#endif
