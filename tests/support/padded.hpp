// Tensors for tests of ops: rows further apart than they are long, with guard words between them.
#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "runtime/tensor/view.hpp"

namespace plasmid::test {

inline constexpr double kHalfUlp = 0x1p-24;  // of f32: one rounding's relative error

class Padded {  // f32, of any shape; the outer dim's step is `gap` more than the inner dims fill
 public:
  explicit Padded(Shape shape, Index gap = 0) : shape_(shape), width_(1), gap_(gap) {
    for (int i = 1; i < shape.rank; ++i) width_ *= shape[i];
    floats_.assign(static_cast<std::size_t>(shape[0] * (width_ + gap) + gap), kGuard);
    for_each([](float& x) { x = 0; });
  }
  static Padded normal(Shape shape, unsigned seed, Index gap = 0, float mean = 0, float deviation = 1) {
    Padded result(shape, gap);
    std::mt19937 bits(seed);
    std::normal_distribution<float> draw(mean, deviation);
    result.for_each([&](float& x) { x = draw(bits); });
    return result;
  }

  View view() {
    View view(reinterpret_cast<std::byte*>(floats_.data()), {shape_, DType::f32});
    if (shape_.rank > 1) view.stride[0] = width_ + gap_;
    return view;
  }
  ConstView view() const { return const_cast<Padded*>(this)->view(); }
  Index rows() const { return shape_[0]; }
  Index width() const { return width_; }
  float& at(Index row, Index column = 0) { return floats_[static_cast<std::size_t>(row * (width_ + gap_) + column)]; }
  float at(Index row, Index column = 0) const { return const_cast<Padded*>(this)->at(row, column); }
  Padded magnitudes() const {
    Padded result = *this;
    result.for_each([](float& x) { x = std::abs(x); });
    return result;
  }
  void for_each(const std::function<void(float&)>& body) {
    for (Index r = 0; r < rows(); ++r)
      for (Index c = 0; c < width_; ++c) body(at(r, c));
  }
  bool guards_stand() const {
    for (Index r = 0; r < rows(); ++r)
      for (Index c = width_; c < width_ + gap_; ++c)
        if (at(r, c) != kGuard) return false;
    return true;
  }

 private:
  static constexpr float kGuard = -12345.678f;
  Shape shape_;
  Index width_, gap_;
  std::vector<float> floats_;
};

// |found - wanted| <= bound(row, column) everywhere (a NaN fails), and nothing was written beside `found`.
inline void expect_within(const Padded& found, const Padded& wanted, const std::function<double(Index, Index)>& bound,
                          const std::string& what) {
  EXPECT_TRUE(found.guards_stand()) << what << ": written beyond a row";
  ASSERT_EQ(found.rows(), wanted.rows()) << what;
  ASSERT_EQ(found.width(), wanted.width()) << what;
  for (Index r = 0; r < found.rows(); ++r)
    for (Index c = 0; c < found.width(); ++c)
      if (!(std::abs(static_cast<double>(found.at(r, c)) - wanted.at(r, c)) <= bound(r, c))) {
        ADD_FAILURE() << what << " at " << r << ", " << c << ": " << found.at(r, c) << " for " << wanted.at(r, c)
                      << ", allowed " << bound(r, c);
        return;
      }
}

inline void expect_same_bits(const Padded& found, const Padded& wanted, const std::string& what) {
  expect_within(
      found, wanted, [](Index, Index) { return 0.0; }, what);
}

}  // namespace plasmid::test
