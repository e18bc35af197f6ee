// Fixed-point streams: rounding, exact inverses, and the limits of 32 bits, on every instruction set.
#include "runtime/ops/fixed_point.hpp"

#include <omp.h>

#include <bit>
#include <cmath>
#include <limits>

#include "runtime/device/simd.hpp"
#include "tests/support/padded.hpp"

namespace plasmid {
namespace {

using test::Padded;

// q32 rows in a Padded's memory: the same four bytes.
View fixed(Padded& memory) {
  View view = memory.view();
  view.dtype = DType::q32;
  return view;
}
void fill_bits(Padded& memory, unsigned seed) {
  std::mt19937 draw(seed);
  std::uniform_int_distribution<std::int32_t> bits(-(1 << 30), 1 << 30);
  memory.for_each([&](float& x) { x = std::bit_cast<float>(bits(draw)); });
}
void expect_same_words(const Padded& found, const Padded& wanted, const std::string& what) {
  for (Index r = 0; r < found.rows(); ++r)
    for (Index c = 0; c < found.width(); ++c)
      ASSERT_EQ(std::bit_cast<std::int32_t>(found.at(r, c)), std::bit_cast<std::int32_t>(wanted.at(r, c)))
          << what << " at " << r << ", " << c;
  EXPECT_TRUE(found.guards_stand()) << what;
}

template <class Body>
void on_every_target(Body&& body) {
  const int threads = omp_get_max_threads();
  for (const Simd simd : {Simd::sse4, Simd::avx2, Simd::avx512}) {
    if (simd > widest_simd()) continue;
    limit_simd(simd);
    for (const int team : {1, 3}) {
      omp_set_num_threads(team);
      body(name_of(simd) + ", " + std::to_string(team) + " threads");
    }
  }
  omp_set_num_threads(threads);
  limit_simd(Simd::avx512);
}

TEST(FixedPointOp, EqualsItsDefinitionAndItsInverseToTheBit) {
  Stream stream;
  on_every_target([&](const std::string& target) {
    for (const int fraction_bits : {8, 20, 24})
      for (const Index width : {1, 7, 33, 3000})
        for (const Index gap : {0, 3}) {
          const FixedPoint format{fraction_bits};
          const std::string what = target + ", width " + std::to_string(width);
          Padded q({13, width}, gap);
          fill_bits(q, 5);
          const Padded start = q;
          // Steps of every size, from far below one to 2^28, so that ties and large sums are met.
          Padded x({13, width}, 2);
          std::mt19937 draw(7);
          std::normal_distribution<float> normal;
          std::uniform_int_distribution<int> exponent(-3, 27);
          x.for_each([&](float& value) {
            value = std::round(8 * normal(draw)) / 2 * std::ldexp(1.0f, exponent(draw) - fraction_bits - 3);
          });
          Padded wanted = q;
          ASSERT_TRUE(ops::ref::add_to_fixed(fixed(wanted), x.view(), format));
          ASSERT_TRUE(ops::add_to_fixed(fixed(q), x.view(), format, stream)) << what;
          expect_same_words(q, wanted, what + ", add");
          Padded floats({13, width}, 1), floats_wanted = floats;
          ops::from_fixed(fixed(q), format, floats.view(), stream);
          ops::ref::from_fixed(fixed(q), format, floats_wanted.view());
          test::expect_same_bits(floats, floats_wanted, what + ", floats");
          ops::take_from_fixed(fixed(q), x.view(), format, stream);
          expect_same_words(q, start, what + ", back");
        }
  });
}

TEST(FixedPointOp, RoundsToTheNearestStepAndTiesToEven) {
  Stream stream;
  const float cases[][2] = {{0.5f, 0}, {1.5f, 2}, {2.5f, 2}, {-0.5f, 0}, {-1.5f, -2}, {0.51f, 1}, {-7.49f, -7}};
  for (const auto& [steps, wanted] : cases) {
    Padded q({1, 1}), x({1, 1});
    x.at(0) = std::ldexp(steps, -20);
    ASSERT_TRUE(ops::add_to_fixed(fixed(q), x.view(), {}, stream));
    EXPECT_EQ(std::bit_cast<std::int32_t>(q.at(0)), static_cast<std::int32_t>(wanted)) << steps;
  }
}

TEST(FixedPointOp, SaysWhatDoesNotFit) {
  Stream stream;
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  struct Case {
    double before;
    float addend;
    double value;  // 0: it fits
  };
  const Case cases[] = {{2047, 0.999f, 0}, {2047, 1, 2048},     {-2047, -1, 0},     {-2047, -1.00001f, -2048.00001},
                        {0, 2048, 2048},   {0, -2048, -2048},   {100, inf, inf},    {1, -inf, -inf},
                        {5, nan, NAN},     {2047, -2047.9f, 0}, {2000, 3e30f, 3e30}};
  on_every_target([&](const std::string& target) {
    for (const Case& c : cases)
      for (const Index place : {0, 5, 16, 100}) {  // in a vector, in a tail
        Padded q({1, 101}), x({1, 101});
        q.at(0, place) = std::bit_cast<float>(static_cast<std::int32_t>(c.before * 0x1p20));
        x.at(0, place) = c.addend;
        Padded again = q;
        const std::string what = target + ": " + std::to_string(c.before) + " + " + std::to_string(c.addend);
        ASSERT_EQ(ops::add_to_fixed(fixed(q), x.view(), {}, stream), c.value == 0) << what;
        ASSERT_EQ(ops::ref::add_to_fixed(fixed(again), x.view(), {}), c.value == 0) << what;
        if (c.value == 0) continue;
        const double found = ops::out_of_range(fixed(q), x.view(), {});
        if (std::isnan(c.value))
          EXPECT_TRUE(std::isnan(found)) << what;
        else if (std::isinf(c.value))
          EXPECT_EQ(found, c.value) << what;
        else
          EXPECT_NEAR(found, c.value, 1e-6 * std::abs(c.value)) << what;
      }
  });
}

}  // namespace
}  // namespace plasmid
