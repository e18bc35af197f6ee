#include "runtime/ops/elementwise.hpp"

#include <omp.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "runtime/base/bfloat16.hpp"
#include "tests/support/padded.hpp"

namespace plasmid {
namespace {

using test::Padded;

constexpr Shape kShapes[] = {{0}, {1}, {77}, {0, 4}, {3, 7}, {100'000, 1}, {2, 50'001}, {5, 3, 4}, {40'000, 2, 3}};

template <class Body>
void for_each_case(Body&& body) {
  const int threads = omp_get_max_threads();
  for (const Shape& shape : kShapes)
    for (const Index gap : {0, 5})
      for (const int team : {1, 3}) {
        if (shape.rank == 1 && gap > 0) continue;
        omp_set_num_threads(team);
        body(shape, gap);
      }
  omp_set_num_threads(threads);
}

void expect_each(const Padded& found, const std::function<float(Index, Index)>& wanted, const char* what) {
  EXPECT_TRUE(found.guards_stand()) << what;
  for (Index r = 0; r < found.rows(); ++r)
    for (Index c = 0; c < found.width(); ++c) ASSERT_EQ(found.at(r, c), wanted(r, c)) << what << ": " << r << ", " << c;
}

TEST(Elementwise, FillsScalesAddsAndCopies) {
  Stream stream;
  for_each_case([&](Shape shape, Index gap) {
    const Padded a = Padded::normal(shape, 1, gap), b = Padded::normal(shape, 2, shape.rank == 1 ? 0 : 2);
    Padded x(shape, gap);
    ops::fill(x.view(), 2.5f, stream);
    expect_each(
        x, [](Index, Index) { return 2.5f; }, "fill");
    ops::copy(b.view(), x.view(), stream);
    expect_each(
        x, [&](Index r, Index c) { return b.at(r, c); }, "copy");
    ops::add(a.view(), b.view(), x.view(), stream);
    const auto sum = [&](Index r, Index c) { return a.at(r, c) + b.at(r, c); };
    expect_each(x, sum, "add");
    Padded left = a, right = b;
    ops::add(left.view(), b.view(), left.view(), stream);
    ops::add(a.view(), right.view(), right.view(), stream);
    expect_each(left, sum, "sum is a");
    expect_each(right, sum, "sum is b");
    ops::scale(left.view(), -0.5f, stream);
    expect_each(
        left, [&](Index r, Index c) { return -0.5f * sum(r, c); }, "scale");
  });
}

// The nearest of the numbers with eight significant bits, by division rather than by bits; ties to even, as
// std::nearbyint rounds.
float nearest_of_eight_bits(float x) {
  if (x == 0 || !std::isfinite(x)) return x;
  int exponent = 0;
  (void)std::frexp(x, &exponent);
  const int last = std::max(exponent, -125) - 8;  // denormals have the spacing of the least normal numbers
  return static_cast<float>(std::ldexp(std::nearbyint(std::ldexp(static_cast<double>(x), -last)), last));
}

TEST(Elementwise, RoundsToTheNearestOfTwoBytes) {
  const float infinity = std::numeric_limits<float>::infinity(), largest = std::numeric_limits<float>::max();
  std::vector<float> x = {0.0f,      -0.0f,     1.0f,      1.0f + 0x1p-8f,   1.0f + 0x3p-8f,  -1.0f - 0x1p-8f,
                          0x1p-149f, 0x1p-126f, 0x1p-134f, 0x1.8p-133f,      infinity,        -infinity,
                          largest,   -largest,  3.14159f,  1.0f + 0x1.2p-8f, 0x1.fffffep-127f};
  std::mt19937 bits(1);
  for (int i = 0; i < 100'000; ++i) {
    const auto any = std::bit_cast<float>(static_cast<std::uint32_t>(bits()));
    if (!std::isnan(any)) x.push_back(any);
  }
  std::vector<BFloat16> y(x.size());
  Stream stream;
  ops::round(view_of(std::span(x)), view_of(std::span(y)), stream);
  for (std::size_t i = 0; i < x.size(); ++i) {
    ASSERT_EQ(widened(y[i]), nearest_of_eight_bits(x[i])) << x[i];
    ASSERT_EQ(std::signbit(widened(y[i])), std::signbit(x[i])) << x[i];
  }
  for (const std::uint32_t nan : {0x7F800001u, 0x7FFFFFFFu, 0xFF800001u, 0x7FC00000u})
    EXPECT_TRUE(std::isnan(widened(rounded(std::bit_cast<float>(nan))))) << nan;
}

TEST(Elementwise, RoundsRowsApart) {
  Stream stream;
  for_each_case([&](Shape shape, Index gap) {
    const Padded from = Padded::normal(shape, 1, gap);
    std::vector<BFloat16> to(static_cast<std::size_t>(shape.count()), BFloat16{7});
    ops::round(from.view(), View(reinterpret_cast<std::byte*>(to.data()), {shape, DType::bf16}), stream);
    auto found = to.begin();
    for (Index r = 0; r < from.rows(); ++r)
      for (Index c = 0; c < from.width(); ++c) ASSERT_EQ((found++)->bits, rounded(from.at(r, c)).bits);
  });
}

TEST(Elementwise, WritesAsToldTo) {
  Stream stream;
  for_each_case([&](Shape shape, Index gap) {
    const Padded from = Padded::normal(shape, 1, gap), before = Padded::normal(shape, 2, gap);
    Padded skip = before, overwrite = before, accumulate = before;
    ops::write(from.view(), Write::skip, skip.view(), stream);
    ops::write(from.view(), Write::overwrite, overwrite.view(), stream);
    ops::write(from.view(), Write::accumulate, accumulate.view(), stream);
    expect_each(
        skip, [&](Index r, Index c) { return before.at(r, c); }, "skip");
    expect_each(
        overwrite, [&](Index r, Index c) { return from.at(r, c); }, "overwrite");
    expect_each(
        accumulate, [&](Index r, Index c) { return from.at(r, c) + before.at(r, c); }, "accumulate");
  });
}

TEST(Elementwise, CopiesEveryDType) {
  Stream stream;
  for (const DType dtype :
       {DType::f32, DType::f64, DType::bf16, DType::i32, DType::i64, DType::u8, DType::q32, DType::u16}) {
    const std::size_t row = static_cast<std::size_t>(6 * size_of(dtype));  // 4 of 6 columns are copied
    std::vector<std::byte> from(5 * row), to(5 * row);
    for (std::size_t i = 0; i < from.size(); ++i) from[i] = static_cast<std::byte>(i + 1);
    const View source = View(from.data(), {{5, 6}, dtype}).slice(1, 1, 5);
    ops::copy(source, View(to.data(), {{5, 6}, dtype}).slice(1, 0, 4), stream);
    for (std::size_t r = 0; r < 5; ++r) {
      EXPECT_EQ(std::memcmp(&to[r * row], &from[r * row + row / 6], row / 6 * 4), 0) << name_of(dtype);
      for (std::size_t i = row / 6 * 4; i < row; ++i) EXPECT_EQ(to[r * row + i], std::byte{0}) << name_of(dtype);
    }
  }
}

TEST(ElementwiseDeathTest, RefusesOtherShapesAndDTypes) {
  Stream stream;
  Padded a({2, 3}), b({3, 2});
  EXPECT_DEATH(ops::add(a.view(), a.view(), b.view(), stream), "\\[3, 2\\]");
  std::vector<std::int32_t> integers(6);
  EXPECT_DEATH(ops::copy(a.view(), view_of(std::span(integers)).reshape({2, 3}), stream), "f32 to i32");
}

}  // namespace
}  // namespace plasmid
