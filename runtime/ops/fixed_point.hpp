#pragma once
#include <cstdint>

#include "runtime/device/stream.hpp"
#include "runtime/tensor/view.hpp"

namespace plasmid {

struct Fixed {  // an element of a q32 tensor: bits * FixedPoint::step()
  std::int32_t bits = 0;
};
template <>
struct DTypeOf<Fixed> {
  static constexpr DType value = DType::q32;
};

// Numbers as multiples of one step. Their sums have no rounding, so adding and taking away again is exact; a float is
// rounded once, on its way in (MacKay et al. 2018: reversible networks with finite precision).
struct FixedPoint {
  int fraction_bits = 20;  // 0 to 30
  double step() const { return 1.0 / static_cast<double>(std::int64_t{1} << fraction_bits); }
  double limit() const { return 2147483648.0 * step(); }  // values lie in [-limit, limit)
};

namespace ops {

// Tensors of one shape; the outer dim may be strided, inner dims contiguous.

// x = q, rounded to nearest even: exact where |q| < 2^24 steps.  q q32, x f32.
void from_fixed(ConstView q, FixedPoint, View x, Stream&);

// q += round(x), to the nearest step, ties to even.  q q32, x f32. False where a sum or an x is out of range or not a
// number: the bits of q then are of no use but to `out_of_range`.
[[nodiscard]] bool add_to_fixed(View q, ConstView x, FixedPoint, Stream&);
// q -= round(x): to the bit what `add_to_fixed` with the same x made of it.
void take_from_fixed(View q, ConstView x, FixedPoint, Stream&);

// After add_to_fixed(q, x) gave false: a value that was to be stored, the furthest beyond the range, or NaN. Slow.
double out_of_range(ConstView q, ConstView x, FixedPoint);

namespace ref {  // element by element
void from_fixed(ConstView q, FixedPoint, View x);
[[nodiscard]] bool add_to_fixed(View q, ConstView x, FixedPoint);
void take_from_fixed(View q, ConstView x, FixedPoint);
}  // namespace ref

}  // namespace ops
}  // namespace plasmid
