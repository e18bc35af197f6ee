#include <cmath>

#include "runtime/base/check.hpp"
#include "runtime/base/recycled.hpp"
#include "runtime/device/parallel_for.hpp"
#include "runtime/optim/optimizer.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/optim/optimizer_host.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "runtime/ops/simd-inl.hpp"

#ifndef PLASMID_RUNTIME_OPTIM_OPTIMIZER_HOST
#define PLASMID_RUNTIME_OPTIM_OPTIMIZER_HOST
namespace plasmid {

struct AdamWFactors {
  float gradient_scale, beta1, beta2, rest1, rest2;  // rest: 1 - beta
  float keep;                                        // 1 - rate * decay
  float rate, root;                                  // rate / (1 - b1^t), 1 / sqrt(1 - b2^t)
  float epsilon;
};

}  // namespace plasmid
#endif

HWY_BEFORE_NAMESPACE();
namespace plasmid::ops {
namespace HWY_NAMESPACE {

void adamw(const AdamWFactors& f, Index count, float* parameter, float* gradient, float* first, float* second) {
  const D d;
  const auto set = [&](float value) HWY_ATTR { return hn::Set(d, value); };
  for_each_vector(count, [&](Index i, Index n) HWY_ATTR {
    const V g = hn::Mul(load(gradient + i, n), set(f.gradient_scale));
    const V m = hn::MulAdd(set(f.beta1), load(first + i, n), hn::Mul(set(f.rest1), g));
    const V v = hn::MulAdd(set(f.beta2), load(second + i, n), hn::Mul(set(f.rest2), hn::Mul(g, g)));
    const V size = hn::MulAdd(hn::Sqrt(v), set(f.root), set(f.epsilon));
    const V p = hn::Mul(load(parameter + i, n), set(f.keep));
    store(hn::NegMulAdd(set(f.rate), hn::Div(m, size), p), parameter + i, n);
    store(m, first + i, n);
    store(v, second + i, n);
    store(hn::Zero(d), gradient + i, n);
  });
}

double squares(const float* values, Index count) {
  const hn::ScalableTag<double> d;
  const hn::Rebind<float, decltype(d)> half;
  const Index step = static_cast<Index>(hn::Lanes(d));
  auto a = hn::Zero(d), b = a;
  Index i = 0;
  for (; i + 2 * step <= count; i += 2 * step) {
    const auto x = hn::PromoteTo(d, hn::LoadU(half, values + i)),
               y = hn::PromoteTo(d, hn::LoadU(half, values + i + step));
    a = hn::MulAdd(x, x, a), b = hn::MulAdd(y, y, b);
  }
  double sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(a, b)));
  for (; i < count; ++i) sum += static_cast<double>(values[i]) * values[i];
  return sum;
}

}  // namespace HWY_NAMESPACE
}  // namespace plasmid::ops
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace plasmid {
namespace ops {
HWY_EXPORT(adamw);
HWY_EXPORT(squares);
}  // namespace ops

void adamw_step(const AdamW& o, Index step, float gradient_scale, std::span<float> parameter, std::span<float> gradient,
                std::span<float> first_moment, std::span<float> second_moment) {
  const std::size_t count = parameter.size();
  PLASMID_CHECK(gradient.size() == count && first_moment.size() == count && second_moment.size() == count)
      << count << " parameters, " << gradient.size() << " gradients, " << first_moment.size() << " and "
      << second_moment.size() << " moments";
  PLASMID_CHECK(step >= 1) << "steps count from 1, not " << step;
  const double t = static_cast<double>(step), rate = o.learning_rate;
  const AdamWFactors factors{gradient_scale,
                             o.beta1,
                             o.beta2,
                             static_cast<float>(1.0 - o.beta1),
                             static_cast<float>(1.0 - o.beta2),
                             static_cast<float>(1 - rate * o.decay),
                             static_cast<float>(rate / (1 - std::pow(o.beta1, t))),
                             static_cast<float>(1 / std::sqrt(1 - std::pow(o.beta2, t))),
                             o.epsilon};
  parallel_for(static_cast<Index>(count), 4096, [&](Index begin, Index end) {
    HWY_DYNAMIC_DISPATCH(ops::adamw)
    (factors, end - begin, parameter.data() + begin, gradient.data() + begin, first_moment.data() + begin,
     second_moment.data() + begin);
  });
}

double sum_of_squares(std::span<const float> values) {
  constexpr Index kBlock = 1 << 16;
  const Index count = static_cast<Index>(values.size()), blocks = ceil_div(count, kBlock);
  RecycledVector<double> sums(static_cast<std::size_t>(blocks));
  parallel_for(blocks, 1, [&](Index first, Index last) {
    for (Index block = first; block < last; ++block)
      sums[static_cast<std::size_t>(block)] =
          HWY_DYNAMIC_DISPATCH(ops::squares)(values.data() + block * kBlock, std::min(kBlock, count - block * kBlock));
  });
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

}  // namespace plasmid
#endif
