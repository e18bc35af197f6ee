#include "runtime/ops/matmul.hpp"

#include <omp.h>

#include <cstdlib>
#include <cstring>

#include "runtime/device/parallel_for.hpp"
#include "runtime/device/simd.hpp"
#include "tests/support/padded.hpp"

namespace plasmid {
namespace {

using ops::WeightLayout;
using test::Padded;

struct Case {
  Index tokens, in, out;
};
constexpr Case kOddSizes[] = {{0, 5, 7},     {1, 1, 1},     {3, 7, 5},       {47, 33, 65},  {48, 16, 1},  {49, 1, 97},
                              {100, 64, 96}, {193, 257, 3}, {130, 100, 385}, {5, 1025, 49}, {7, 31, 1500}};

std::string describe(const Case& c, WeightLayout layout) {
  return std::to_string(c.tokens) + " tokens, " + std::to_string(c.in) + " to " + std::to_string(c.out) +
         (layout == WeightLayout::out_in ? ", [out, in]" : ", [in, out]");
}

Shape weight_shape(const Case& c, WeightLayout layout) {
  return layout == WeightLayout::out_in ? Shape{c.out, c.in} : Shape{c.in, c.out};
}

template <class Body>
void for_each_case(Body&& body) {
  for (const Case& c : kOddSizes)
    for (const WeightLayout layout : {WeightLayout::out_in, WeightLayout::in_out})
      for (const Index gap : {0, 3}) body(c, layout, gap);
}

// A sum of n terms in f32, in any order, is off by at most n half ulps of the sum of magnitudes; one more for each
// rounding of the reference and of what is added at the end.
double sum_bound(Index terms, double magnitudes) {
  return static_cast<double>(terms + 3) * test::kHalfUlp * magnitudes + 0x1p-149;
}

TEST(Matmul, ForwardEqualsItsDefinition) {
  Stream stream;
  for_each_case([&](const Case& c, WeightLayout layout, Index gap) {
    for (const bool with_bias : {true, false}) {
      const Padded x = Padded::normal({c.tokens, c.in}, 1, gap), w = Padded::normal(weight_shape(c, layout), 2, gap),
                   bias = Padded::normal({c.out}, 3);
      Padded y({c.tokens, c.out}, gap), wanted({c.tokens, c.out}), sizes({c.tokens, c.out});
      y.for_each([](float& value) { value = NAN; });
      const ConstView b = with_bias ? bias.view() : ConstView{};
      ops::linear_forward(x.view(), w.view(), layout, b, y.view(), stream);
      ops::ref::linear_forward(x.view(), w.view(), layout, b, wanted.view());
      const Padded bias_size = bias.magnitudes();
      ops::ref::linear_forward(x.magnitudes().view(), w.magnitudes().view(), layout,
                               with_bias ? bias_size.view() : ConstView{}, sizes.view());
      test::expect_within(
          y, wanted, [&](Index r, Index o) { return sum_bound(c.in, sizes.at(r, o)); }, describe(c, layout));
    }
  });
}

TEST(Matmul, InputGradientEqualsItsDefinition) {
  Stream stream;
  for_each_case([&](const Case& c, WeightLayout layout, Index gap) {
    for (const Write write : {Write::skip, Write::overwrite, Write::accumulate}) {
      const Padded dy = Padded::normal({c.tokens, c.out}, 1, gap), w = Padded::normal(weight_shape(c, layout), 2, gap);
      Padded dx = Padded::normal({c.tokens, c.in}, 3, gap), wanted = dx, sizes = dx.magnitudes();
      ops::linear_input_gradient(dy.view(), w.view(), layout, write, dx.view(), stream);
      ops::ref::linear_input_gradient(dy.view(), w.view(), layout, write, wanted.view());
      if (write == Write::skip) {
        test::expect_same_bits(dx, wanted, describe(c, layout));
        continue;
      }
      ops::ref::linear_input_gradient(dy.magnitudes().view(), w.magnitudes().view(), layout, write, sizes.view());
      test::expect_within(
          dx, wanted, [&](Index r, Index i) { return sum_bound(c.out, sizes.at(r, i)); }, describe(c, layout));
    }
  });
}

TEST(Matmul, WeightGradientAddsTheSumOverTokens) {
  Stream stream;
  for_each_case([&](const Case& c, WeightLayout layout, Index gap) {
    const Padded x = Padded::normal({c.tokens, c.in}, 1, gap), dy = Padded::normal({c.tokens, c.out}, 2, gap);
    Padded dw = Padded::normal(weight_shape(c, layout), 3, gap), wanted = dw, again = dw, sizes = dw.magnitudes();
    Padded dbias = Padded::normal({c.out}, 4), wanted_bias = dbias, bias_sizes = dbias.magnitudes();
    ops::linear_weight_gradient(x.view(), dy.view(), layout, dw.view(), dbias.view(), stream);
    ops::ref::linear_weight_gradient(x.view(), dy.view(), layout, wanted.view(), wanted_bias.view());
    ops::ref::linear_weight_gradient(x.magnitudes().view(), dy.magnitudes().view(), layout, sizes.view(),
                                     bias_sizes.view());
    test::expect_within(
        dw, wanted, [&](Index r, Index i) { return sum_bound(c.tokens, sizes.at(r, i)); }, describe(c, layout));
    test::expect_within(
        dbias, wanted_bias, [&](Index o, Index) { return sum_bound(c.tokens, bias_sizes.at(o)); },
        "bias of " + describe(c, layout));

    ops::linear_weight_gradient(x.view(), dy.view(), layout, again.view(), {}, stream);
    test::expect_within(
        again, wanted, [&](Index r, Index i) { return sum_bound(c.tokens, sizes.at(r, i)); },
        "without a bias, " + describe(c, layout));
  });
}

// Rows [0, 70) of `whole`, computed at once, against every shorter stretch of them computed alone.
void expect_row_invariance(Index in, Index out, WeightLayout layout) {
  constexpr Index kRows = 70 + 48 + 5;
  Stream stream;
  const Case c{kRows, in, out};
  const Padded x = Padded::normal({kRows, in}, 1), w = Padded::normal(weight_shape(c, layout), 2),
               bias = Padded::normal({out}, 3), dy = Padded::normal({kRows, out}, 4),
               dx_before = Padded::normal({kRows, in}, 5);
  Padded whole({kRows, out}), dx_whole = dx_before;
  ops::linear_forward(x.view(), w.view(), layout, bias.view(), whole.view(), stream);
  ops::linear_input_gradient(dy.view(), w.view(), layout, Write::accumulate, dx_whole.view(), stream);
  std::mt19937 bits(6);
  for (Index rows = 1; rows <= 70; ++rows) {
    omp_set_num_threads(rows % 8 ? 1 : rows % 16 ? 2 : 3);
    const Index first = std::uniform_int_distribution<Index>(0, kRows - rows)(bits);
    Padded y({rows, out}, rows % 2 ? 7 : 0), dx({rows, in}, rows % 2 ? 0 : 9);
    for (Index r = 0; r < rows; ++r)
      for (Index i = 0; i < in; ++i) dx.at(r, i) = dx_before.at(first + r, i);
    ops::linear_forward(x.view().slice(0, first, first + rows), w.view(), layout, bias.view(), y.view(), stream);
    ops::linear_input_gradient(dy.view().slice(0, first, first + rows), w.view(), layout, Write::accumulate, dx.view(),
                               stream);
    for (Index r = 0; r < rows; ++r) {
      ASSERT_EQ(std::memcmp(&y.at(r), &whole.at(first + r), static_cast<std::size_t>(out) * sizeof(float)), 0)
          << "row " << first + r << " as row " << r << " of " << rows << ", " << in << " to " << out;
      ASSERT_EQ(std::memcmp(&dx.at(r), &dx_whole.at(first + r), static_cast<std::size_t>(in) * sizeof(float)), 0)
          << "gradient of row " << first + r << " as row " << r << " of " << rows << ", " << in << " to " << out;
    }
  }
}

TEST(Matmul, BitsOfARowDoNotDependOnItsNeighbours) {
  const int threads = omp_get_max_threads();
  for (const auto& [in, out] : {std::pair<Index, Index>{1, 1},
                                {2, 16},
                                {7, 1},
                                {1, 63},
                                {33, 31},
                                {64, 192},
                                {129, 257},
                                {384, 384},
                                {1000, 48},
                                {50, 1537}})
    for (const WeightLayout layout : {WeightLayout::out_in, WeightLayout::in_out})
      expect_row_invariance(in, out, layout);
  omp_set_num_threads(threads);
}

// oneDNN fixes its instruction set at the first product, hence one process for each.
TEST(MatmulDeathTest, BitsOfARowDoNotDependOnItsNeighboursUnderNarrowerSimd) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  for (const Simd level : {Simd::sse4, Simd::avx2, Simd::avx512}) {
    if (level > widest_simd()) continue;
    EXPECT_EXIT(
        {
          limit_simd(level);
          for (const auto& [in, out] : {std::pair<Index, Index>{2, 16}, {33, 31}, {129, 257}, {384, 48}})
            for (const WeightLayout layout : {WeightLayout::out_in, WeightLayout::in_out})
              expect_row_invariance(in, out, layout);
          std::exit(testing::Test::HasFailure() ? 1 : 0);
        },
        testing::ExitedWithCode(0), "")
        << name_of(level);
  }
}

TEST(Matmul, WeightGradientIsTheSameForAnyNumberOfThreads) {
  const int threads = omp_get_max_threads();
  Stream stream;
  for (const auto& [in, out] : {std::pair<Index, Index>{130, 401}, {384, 384}, {257, 800}, {31, 5}}) {
    const Padded x = Padded::normal({1100, in}, 1), dy = Padded::normal({1100, out}, 2);
    Padded dw({in, out}), dbias({out});
    omp_set_num_threads(1);
    ops::linear_weight_gradient(x.view(), dy.view(), WeightLayout::in_out, dw.view(), dbias.view(), stream);
    for (const int team : {2, 3, 8}) {  // smaller tiles for larger teams
      omp_set_num_threads(team);
      Padded dw_team({in, out}), dbias_team({out});
      ops::linear_weight_gradient(x.view(), dy.view(), WeightLayout::in_out, dw_team.view(), dbias_team.view(), stream);
      test::expect_same_bits(dw_team, dw, std::to_string(team) + " threads");
      test::expect_same_bits(dbias_team, dbias, std::to_string(team) + " threads");
    }
  }
  omp_set_num_threads(threads);
}

TEST(Matmul, BitsInsideAParallelRegionAreThoseOutside) {
  Stream stream;
  const Padded x = Padded::normal({101, 67}, 1), w = Padded::normal({90, 67}, 2), dy = Padded::normal({101, 90}, 3);
  const auto run = [&](Padded& y, Padded& dw) {
    ops::linear_forward(x.view(), w.view(), WeightLayout::out_in, {}, y.view(), stream);
    ops::linear_weight_gradient(x.view(), dy.view(), WeightLayout::out_in, dw.view(), {}, stream);
  };
  Padded y({101, 90}), dw({90, 67});
  run(y, dw);
  std::vector<Padded> y_inside(2, Padded({101, 90})), dw_inside(2, Padded({90, 67}));
  parallel_team(2, [&](Index thread, Index team) {
    for (auto i = static_cast<std::size_t>(thread); i < 2; i += static_cast<std::size_t>(team))
      run(y_inside[i], dw_inside[i]);
  });
  for (std::size_t i = 0; i < 2; ++i) {
    test::expect_same_bits(y_inside[i], y, "product");
    test::expect_same_bits(dw_inside[i], dw, "weight gradient");
  }
}

TEST(MatmulDeathTest, RefusesShapesThatDoNotFit) {
  Stream stream;
  Padded x({2, 3}), w({4, 5}), y({2, 4});
  EXPECT_DEATH(ops::linear_forward(x.view(), w.view(), WeightLayout::out_in, {}, y.view(), stream), "\\[4, 5\\]");
}

}  // namespace
}  // namespace plasmid
