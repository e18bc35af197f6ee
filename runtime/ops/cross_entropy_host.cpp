#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/base/recycled.hpp"
#include "runtime/device/parallel_for.hpp"
#include "runtime/ops/cross_entropy.hpp"
#include "runtime/ops/rows.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/ops/cross_entropy_host.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "runtime/ops/simd-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace plasmid::ops {
namespace HWY_NAMESPACE {

double log_sum_exp(const float* row, Index width) {
  constexpr Index kStretch = 4096;  // summed in f32; the stretches in f64
  const D d;
  const V lowest = hn::Set(d, -std::numeric_limits<float>::infinity());
  const auto larger = [](V a, V b) HWY_ATTR { return hn::Max(a, b); };
  const V tops = fold(width, lowest, larger, [&](Index c, Index n) HWY_ATTR {
    const V v = load(row + c, n);
    return n == lanes() ? v : hn::IfThenElse(hn::FirstN(d, static_cast<std::size_t>(n)), v, lowest);
  });
  const V top = hn::MaxOfLanes(d, tops);
  double total = 0;
  for (Index begin = 0; begin < width; begin += kStretch)
    total += sum(HWY_MIN(kStretch, width - begin), [&](Index c, Index n) HWY_ATTR {
      return first_lanes(hn::Exp(d, hn::Sub(load(row + begin + c, n), top)), n);
    });
  return hn::GetLane(top) + std::log(total);
}

void softmax_gradient(float* row, Index width, Index label, float lse, float scale) {
  const D d;
  const V shift = hn::Set(d, lse), factor = hn::Set(d, scale);
  for_each_vector(width, [&](Index c, Index n) HWY_ATTR {
    store(hn::Mul(factor, hn::Exp(d, hn::Sub(load(row + c, n), shift))), row + c, n);
  });
  row[label] -= scale;
}

}  // namespace HWY_NAMESPACE
}  // namespace plasmid::ops
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace plasmid::ops {
namespace {

HWY_EXPORT(log_sum_exp);
HWY_EXPORT(softmax_gradient);

Index grain(Index vocabulary) { return ceil_div(4096, vocabulary + 1); }

}  // namespace

double cross_entropy_forward(ConstView logits, ConstView label, View lse, Stream&) {
  const Index tokens = logits.dim(0), vocabulary = logits.dim(1);
  const auto rows = rows_of<float>(logits, tokens, vocabulary);
  const std::int32_t* labels = vector_of<std::int32_t>(label, tokens);
  float* const lses = vector_of<float>(lse, tokens);
  RecycledVector<double> losses(static_cast<std::size_t>(tokens));  // added up in order, whoever computed them
  parallel_for(tokens, grain(vocabulary), [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t) {
      PLASMID_CHECK(labels[t] >= -1 && labels[t] < vocabulary) << "label " << labels[t] << " of " << vocabulary;
      const double row_lse = HWY_DYNAMIC_DISPATCH(log_sum_exp)(rows[t], vocabulary);
      lses[t] = static_cast<float>(row_lse);
      losses[static_cast<std::size_t>(t)] = labels[t] < 0 ? 0 : row_lse - rows[t][labels[t]];
    }
  });
  double loss = 0;
  for (const double of_row : losses) loss += of_row;
  return loss;
}

void cross_entropy_backward(View logits, ConstView label, ConstView lse, float scale, Stream&) {
  const Index tokens = logits.dim(0), vocabulary = logits.dim(1);
  const auto rows = rows_of<float>(logits, tokens, vocabulary);
  const std::int32_t* labels = vector_of<std::int32_t>(label, tokens);
  const float* lses = vector_of<float>(lse, tokens);
  parallel_for(tokens, grain(vocabulary), [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t) {
      PLASMID_CHECK(labels[t] >= -1 && labels[t] < vocabulary) << "label " << labels[t] << " of " << vocabulary;
      if (labels[t] < 0)
        std::fill_n(rows[t], vocabulary, 0.0f);
      else
        HWY_DYNAMIC_DISPATCH(softmax_gradient)(rows[t], vocabulary, labels[t], lses[t], scale);
    }
  });
}

}  // namespace plasmid::ops
#endif
