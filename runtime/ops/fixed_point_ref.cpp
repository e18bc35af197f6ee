#include <cmath>

#include "runtime/ops/fixed_point.hpp"
#include "runtime/ops/rows.hpp"

namespace plasmid::ops {
namespace {

// Steps in x, and 0 for what no q32 holds, as the vector code has it.
std::int32_t steps_in(float x, FixedPoint format) {
  const double steps = static_cast<double>(x) / format.step();
  return std::abs(steps) < 2147483648.0 ? static_cast<std::int32_t>(std::nearbyint(steps)) : 0;
}
bool fits(float x, FixedPoint format) { return std::abs(static_cast<double>(x)) < format.limit(); }

std::int32_t wrapped(std::int64_t sum) { return static_cast<std::int32_t>(static_cast<std::uint32_t>(sum)); }

template <class Body>
void for_each_pair(ConstView q, ConstView x, Body&& body) {
  PLASMID_CHECK(q.shape == x.shape) << to_string(q.shape) << " with " << to_string(x.shape);
  const auto fixed = flat_rows<Fixed>(q);
  const auto floats = flat_rows<float>(x);
  for (Index i = 0; i < q.count(); ++i)
    body(fixed[i / fixed.width][i % fixed.width], floats[i / floats.width][i % floats.width]);
}
Fixed& writable(const Fixed& q) { return const_cast<Fixed&>(q); }

}  // namespace

double out_of_range(ConstView q, ConstView x, FixedPoint format) {
  double worst = 0;
  for_each_pair(q, x, [&](const Fixed& after, float addend) {
    const std::int32_t before = wrapped(std::int64_t{after.bits} - steps_in(addend, format));
    const double value = before * format.step() + static_cast<double>(addend);
    if (std::isnan(worst)) return;
    if (!(std::abs(value) <= std::abs(worst))) worst = value;
  });
  return worst;
}

namespace ref {

void from_fixed(ConstView q, FixedPoint format, View x) {
  for_each_pair(q, x, [&](const Fixed& from, const float& to) {
    const_cast<float&>(to) = static_cast<float>(from.bits * format.step());
  });
}

bool add_to_fixed(View q, ConstView x, FixedPoint format) {
  bool good = true;
  for_each_pair(q, x, [&](const Fixed& to, float addend) {
    const std::int64_t sum = std::int64_t{to.bits} + steps_in(addend, format);
    good = good && fits(addend, format) && sum == wrapped(sum);
    writable(to).bits = wrapped(sum);
  });
  return good;
}

void take_from_fixed(View q, ConstView x, FixedPoint format) {
  for_each_pair(q, x, [&](const Fixed& to, float addend) {
    writable(to).bits = wrapped(std::int64_t{to.bits} - steps_in(addend, format));
  });
}

}  // namespace ref
}  // namespace plasmid::ops
