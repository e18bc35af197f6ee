#include <algorithm>
#include <cmath>

#include "runtime/base/recycled.hpp"
#include "runtime/device/parallel_for.hpp"
#include "runtime/ops/norm.hpp"
#include "runtime/ops/rows.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/ops/norm_host.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "runtime/ops/simd-inl.hpp"

#ifndef PLASMID_RUNTIME_OPS_NORM_HOST
#define PLASMID_RUNTIME_OPS_NORM_HOST
namespace plasmid::ops {

struct NormForward {  // RMS normalisation has no bias and no mean
  Rows<const float> x;
  const float *gain, *bias;
  float epsilon;
  Rows<float> y;
  float *mean, *rstd;
};
struct NormBackward {
  Rows<const float> x, dy;
  const float *gain, *mean, *rstd;
  Write write;
  Rows<float> dx;
};

}  // namespace plasmid::ops
#endif

HWY_BEFORE_NAMESPACE();
namespace plasmid::ops {
namespace HWY_NAMESPACE {

template <bool kLayer>
HWY_INLINE void forward_row(const NormForward& a, Index t) {
  const D d;
  const Index width = a.x.width;
  const float* x = a.x[t];
  float* const y = a.y[t];
  const float scale = 1 / static_cast<float>(width);
  const float m = kLayer ? scale * sum(width, [&](Index c, Index n) HWY_ATTR { return load(x + c, n); }) : 0;
  const V mean = hn::Set(d, m);
  const float variance = scale * sum(width, [&](Index c, Index n) HWY_ATTR {
                           const V from_mean = first_lanes(hn::Sub(load(x + c, n), mean), n);
                           return hn::Mul(from_mean, from_mean);
                         });
  const float r = 1 / std::sqrt(variance + a.epsilon);
  const V rstd = hn::Set(d, r);
  for_each_vector(width, [&](Index c, Index n) HWY_ATTR {
    const V normal = hn::Mul(hn::Sub(load(x + c, n), mean), rstd);
    const V bias = kLayer ? load(a.bias + c, n) : hn::Zero(d);
    store(hn::MulAdd(normal, load(a.gain + c, n), bias), y + c, n);
  });
  if (kLayer && a.mean) a.mean[t] = m;
  if (a.rstd) a.rstd[t] = r;
}

// Adds this row's share to dgain and dbias, and writes dx; the formulas stand in norm_ref.cpp.
template <bool kLayer>
HWY_INLINE void backward_row(const NormBackward& a, Index t, float* dgain, float* dbias) {
  const D d;
  const Index width = a.x.width;
  const float *x = a.x[t], *dy = a.dy[t];
  const V mean = hn::Set(d, kLayer ? a.mean[t] : 0), rstd = hn::Set(d, a.rstd[t]);
  const auto normal = [&](Index c, Index n) HWY_ATTR { return hn::Mul(hn::Sub(load(x + c, n), mean), rstd); };
  V sum_h = hn::Zero(d), sum_hn = hn::Zero(d);
  for_each_vector(width, [&](Index c, Index n) HWY_ATTR {
    const V gradient = load(dy + c, n), h = hn::Mul(gradient, load(a.gain + c, n)), unit = normal(c, n);
    sum_hn = hn::MulAdd(h, unit, sum_hn);
    store(hn::MulAdd(gradient, unit, load(dgain + c, n)), dgain + c, n);
    if constexpr (kLayer) {
      sum_h = hn::Add(sum_h, h);
      store(hn::Add(gradient, load(dbias + c, n)), dbias + c, n);
    }
  });
  if (a.write == Write::skip) return;
  const V scale = hn::Set(d, 1 / static_cast<float>(width));
  const V mean_h = hn::Mul(hn::SumOfLanes(d, sum_h), scale), mean_hn = hn::Mul(hn::SumOfLanes(d, sum_hn), scale);
  float* const dx = a.dx[t];
  for_each_vector(width, [&](Index c, Index n) HWY_ATTR {
    const V before = a.write == Write::accumulate ? load(dx + c, n) : hn::Zero(d);
    const V from_mean = hn::MulSub(load(dy + c, n), load(a.gain + c, n), mean_h);
    store(hn::MulAdd(rstd, hn::NegMulAdd(normal(c, n), mean_hn, from_mean), before), dx + c, n);
  });
}

void forward_rows(const NormForward& a, Index begin, Index end) {
  for (Index t = begin; t < end; ++t) a.bias ? forward_row<true>(a, t) : forward_row<false>(a, t);
}

void backward_rows(const NormBackward& a, Index begin, Index end, float* dgain, float* dbias) {
  for (Index t = begin; t < end; ++t)
    a.mean ? backward_row<true>(a, t, dgain, dbias) : backward_row<false>(a, t, dgain, dbias);
}

}  // namespace HWY_NAMESPACE
}  // namespace plasmid::ops
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace plasmid::ops {
namespace {

HWY_EXPORT(forward_rows);
HWY_EXPORT(backward_rows);

constexpr Index kGrain = 32;       // rows
constexpr Index kStretch = 256;    // rows whose gain gradients are summed in f32; the stretches in f64
constexpr Index kMostParts = 128;  // of the tokens; each has its own sums, so that any team adds them in one order

void forward(const NormForward& a) {
  parallel_for(a.x.count, kGrain, [&](Index begin, Index end) { HWY_DYNAMIC_DISPATCH(forward_rows)(a, begin, end); });
}

void backward(const NormBackward& a, float* dgain, float* dbias) {
  const Index tokens = a.x.count, width = a.x.width, parts = std::min(kMostParts, ceil_div(tokens, kStretch));
  const auto sums = static_cast<std::size_t>(dbias ? 2 * width : width);
  RecycledVector<double> totals(static_cast<std::size_t>(parts) * sums);  // [parts][sums]
  parallel_for(parts, 1, [&](Index first, Index last) {
    RecycledVector<float> stretch(sums);
    for (Index part = first; part < last; ++part) {
      double* const total = totals.data() + static_cast<std::size_t>(part) * sums;
      const Index end = tokens * (part + 1) / parts;
      for (Index t = tokens * part / parts; t < end; t += kStretch) {
        std::ranges::fill(stretch, 0.0f);
        HWY_DYNAMIC_DISPATCH(backward_rows)
        (a, t, std::min(end, t + kStretch), stretch.data(), stretch.data() + (dbias ? width : 0));
        for (std::size_t c = 0; c < sums; ++c) total[c] += stretch[c];
      }
    }
  });
  for (std::size_t c = 0; c < sums; ++c) {
    double sum = 0;
    for (std::size_t at = c; at < totals.size(); at += sums) sum += totals[at];
    const Index channel = static_cast<Index>(c);
    put(channel < width ? dgain[channel] : dbias[channel - width], sum, Write::accumulate);
  }
}

}  // namespace

void layer_norm_forward(ConstView x, ConstView gain, ConstView bias, float epsilon, View y, View mean, View rstd,
                        Stream&) {
  const Index tokens = x.dim(0), width = x.dim(1);
  forward({rows_of<float>(x, tokens, width), vector_of<float>(gain, width), vector_of<float>(bias, width), epsilon,
           rows_of<float>(y, tokens, width), optional_vector<float>(mean, tokens),
           optional_vector<float>(rstd, tokens)});
}

void layer_norm_backward(ConstView x, ConstView gain, ConstView mean, ConstView rstd, ConstView dy, Write write,
                         View dx, View dgain, View dbias, Stream&) {
  const Index tokens = x.dim(0), width = x.dim(1);
  if (tokens == 0) return;
  backward({rows_of<float>(x, tokens, width), rows_of<float>(dy, tokens, width), vector_of<float>(gain, width),
            vector_of<float>(mean, tokens), vector_of<float>(rstd, tokens), write,
            write == Write::skip ? Rows<float>{} : rows_of<float>(dx, tokens, width)},
           vector_of<float>(dgain, width), vector_of<float>(dbias, width));
}

void rms_norm_forward(ConstView x, ConstView gain, float epsilon, View y, View rstd, Stream&) {
  const Index tokens = x.dim(0), width = x.dim(1);
  forward({rows_of<float>(x, tokens, width), vector_of<float>(gain, width), nullptr, epsilon,
           rows_of<float>(y, tokens, width), nullptr, optional_vector<float>(rstd, tokens)});
}

void rms_norm_backward(ConstView x, ConstView gain, ConstView rstd, ConstView dy, Write write, View dx, View dgain,
                       Stream&) {
  const Index tokens = x.dim(0), width = x.dim(1);
  if (tokens == 0) return;
  backward(
      {rows_of<float>(x, tokens, width), rows_of<float>(dy, tokens, width), vector_of<float>(gain, width), nullptr,
       vector_of<float>(rstd, tokens), write, write == Write::skip ? Rows<float>{} : rows_of<float>(dx, tokens, width)},
      vector_of<float>(dgain, width), nullptr);
}

}  // namespace plasmid::ops
#endif
