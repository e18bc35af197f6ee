#include <algorithm>
#include <atomic>

#include "runtime/device/parallel_for.hpp"
#include "runtime/ops/fixed_point.hpp"
#include "runtime/ops/rows.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/ops/fixed_point_host.cpp"
#include <hwy/foreach_target.h>

#include "runtime/ops/simd-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace plasmid::ops {
namespace HWY_NAMESPACE {

using Integers = hn::RebindToSigned<D>;
using Vi = hn::Vec<Integers>;

// Bits pass through the vectors of floats unchanged.
HWY_INLINE Vi load_bits(const Fixed* from, Index n) {
  return hn::BitCast(Integers(), load(reinterpret_cast<const float*>(from), n));
}
HWY_INLINE void store_bits(Vi v, Fixed* to, Index n) { store(hn::BitCast(D(), v), reinterpret_cast<float*>(to), n); }

void FromFixed(const Fixed* q, float step, float* x, Index count) {
  for_each_vector(count, [&](Index c, Index n) HWY_ATTR {
    store(hn::Mul(hn::ConvertTo(D(), load_bits(q + c, n)), hn::Set(D(), step)), x + c, n);
  });
}

// False where something did not fit.
template <bool kAdd>
bool Accumulate(Fixed* q, const float* x, float steps_in_one, Index count) {
  const D tag;
  const Integers integers;
  const V too_far = hn::Set(tag, 2147483648.0f);
  Vi bad = hn::Zero(integers);  // the sign bit
  for_each_vector(count, [&](Index c, Index n) HWY_ATTR {
    const V steps = hn::Mul(load(x + c, n), hn::Set(tag, steps_in_one));
    const auto fits = hn::Lt(hn::Abs(steps), too_far);  // false for NaN
    const Vi addend = hn::NearestInt(hn::IfThenElseZero(fits, steps));
    const Vi before = load_bits(q + c, n);
    const Vi after = kAdd ? hn::Add(before, addend) : hn::Sub(before, addend);
    const Vi beyond = hn::And(hn::Xor(before, after), hn::Xor(addend, after));
    bad = hn::Or(bad, hn::IfThenElse(hn::RebindMask(integers, fits), beyond, hn::Set(integers, -1)));
    store_bits(after, q + c, n);
  });
  return hn::AllFalse(integers, hn::Lt(bad, hn::Zero(integers)));
}
bool AddToFixed(Fixed* q, const float* x, float steps_in_one, Index count) {
  return Accumulate<true>(q, x, steps_in_one, count);
}
bool TakeFromFixed(Fixed* q, const float* x, float steps_in_one, Index count) {
  return Accumulate<false>(q, x, steps_in_one, count);
}

}  // namespace HWY_NAMESPACE
}  // namespace plasmid::ops
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace plasmid::ops {
namespace {

constexpr Index kGrain = 16 * 1024;  // elements a thread is worth waking for

// body(q, x, count) over stretches of contiguous elements.
template <class QView, class XView, class Body>
void for_each_stretch(const QView& q, const XView& x, Body&& body) {
  PLASMID_CHECK(q.shape == x.shape) << to_string(q.shape) << " with " << to_string(x.shape);
  auto fixed = flat_rows<Fixed>(q);
  auto floats = flat_rows<float>(x);
  if (fixed.count == 1 && floats.count == 1)
    return parallel_for(fixed.width, kGrain,
                        [&](Index begin, Index end) { body(fixed.data + begin, floats.data + begin, end - begin); });
  const Index rows = std::max(fixed.count, floats.count), width = q.count() / rows;
  const auto step = [&](const auto& whole) { return whole.count == 1 ? width : whole.stride; };
  parallel_for(rows, std::max<Index>(1, kGrain / std::max<Index>(1, width)), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) body(fixed.data + r * step(fixed), floats.data + r * step(floats), width);
  });
}

float steps_in_one(FixedPoint format) {
  PLASMID_CHECK(0 <= format.fraction_bits && format.fraction_bits <= 30) << format.fraction_bits << " fraction bits";
  return static_cast<float>(1 / format.step());
}

}  // namespace

HWY_EXPORT(FromFixed);
HWY_EXPORT(AddToFixed);
HWY_EXPORT(TakeFromFixed);

void from_fixed(ConstView q, FixedPoint format, View x, Stream&) {
  const float step = 1 / steps_in_one(format);
  for_each_stretch(q, x, [&](const Fixed* from, float* to, Index count) {
    HWY_DYNAMIC_DISPATCH(FromFixed)(from, step, to, count);
  });
}

bool add_to_fixed(View q, ConstView x, FixedPoint format, Stream&) {
  const float steps = steps_in_one(format);
  std::atomic<bool> good = true;
  for_each_stretch(q, x, [&](Fixed* to, const float* from, Index count) {
    if (!HWY_DYNAMIC_DISPATCH(AddToFixed)(to, from, steps, count)) good.store(false, std::memory_order_relaxed);
  });
  return good;
}

void take_from_fixed(View q, ConstView x, FixedPoint format, Stream&) {
  const float steps = steps_in_one(format);
  for_each_stretch(q, x, [&](Fixed* to, const float* from, Index count) {
    (void)HWY_DYNAMIC_DISPATCH(TakeFromFixed)(to, from, steps, count);
  });
}

}  // namespace plasmid::ops
#endif
