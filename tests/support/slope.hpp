// Central differences of functions whose outputs are rounded to f32.
#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>
#include <string>

#include "tests/support/padded.hpp"

namespace plasmid::test {

inline constexpr double kStep = 0x1p-6;

// Numbers on a grid of 2^-10, so that adding a multiple of kStep is exact.
inline Padded on_grid(Padded tensor) {
  tensor.for_each([](float& x) { x = std::round(x * 0x1p10f) * 0x1p-10f; });
  return tensor;
}

inline Padded signs(Shape shape, unsigned seed) {
  Padded result = Padded::normal(shape, seed);
  result.for_each([](float& x) { x = x < 0 ? -1.0f : 1.0f; });
  return result;
}

inline Padded moved(const Padded& from, const Padded& direction, double step) {
  Padded result = from;
  for (Index r = 0; r < from.rows(); ++r)
    for (Index c = 0; c < from.width(); ++c) result.at(r, c) += static_cast<float>(step) * direction.at(r, c);
  return result;
}

inline double inner(const Padded& a, const Padded& b) {
  double sum = 0;
  for (Index r = 0; r < a.rows(); ++r)
    for (Index c = 0; c < a.width(); ++c) sum += static_cast<double>(a.at(r, c)) * b.at(r, c);
  return sum;
}

// `loss` at a distance along some direction has the given slope at 0. Allowed: what the difference changes when the
// step is halved (three times its remaining error, which falls as step^2), and `rounding`, the error of one loss.
inline void expect_slope(const std::function<double(double)>& loss, double slope, double rounding,
                         const std::string& what) {
  const auto difference = [&](double step) { return (loss(step) - loss(-step)) / (2 * step); };
  const double coarse = difference(2 * kStep), fine = difference(kStep);
  EXPECT_NEAR(slope, fine, std::abs(coarse - fine) + 2 * rounding / kStep) << what;
}

}  // namespace plasmid::test
