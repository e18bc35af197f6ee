#include "runtime/ops/embedding.hpp"

#include <omp.h>

#include "tests/support/padded.hpp"

namespace plasmid {
namespace {

using test::Padded;

struct Case {
  Index tokens, rows, width;
};
constexpr Case kSizes[] = {{0, 3, 4},      {1, 1, 1},      {40, 5, 33},      {300, 5, 384},
                           {3000, 5, 300}, {17, 1000, 65}, {3000, 1500, 270}};

std::vector<std::int32_t> random_indices(const Case& c) {
  std::mt19937 bits(7);
  std::uniform_int_distribution<std::int32_t> draw(0, static_cast<std::int32_t>(c.rows - 1));
  std::vector<std::int32_t> indices(static_cast<std::size_t>(c.tokens));
  for (std::int32_t& index : indices) index = draw(bits);
  return indices;
}

TEST(EmbeddingOp, ForwardEqualsItsDefinition) {
  Stream stream;
  for (const Case& c : kSizes)
    for (const Write write : {Write::skip, Write::overwrite, Write::accumulate}) {
      const auto indices = random_indices(c);
      const Padded table = Padded::normal({c.rows, c.width}, 1, 2);
      Padded y = Padded::normal({c.tokens, c.width}, 2, 3), wanted = y;
      ops::embedding_forward(view_of(std::span(indices)), table.view(), write, y.view(), stream);
      ops::ref::embedding_forward(view_of(std::span(indices)), table.view(), write, wanted.view());
      test::expect_same_bits(y, wanted, "embedding");
    }
}

TEST(EmbeddingOp, BackwardEqualsItsDefinitionOnAnyTeam) {
  Stream stream;
  const int threads = omp_get_max_threads();
  for (const Case& c : kSizes) {
    const auto indices = random_indices(c);
    const Padded dy = Padded::normal({c.tokens, c.width}, 1, 1), before = Padded::normal({c.rows, c.width}, 2, 3);
    Padded wanted = before, magnitude = before.magnitudes(), first = before;
    ops::ref::embedding_backward(view_of(std::span(indices)), dy.view(), wanted.view());
    ops::ref::embedding_backward(view_of(std::span(indices)), dy.magnitudes().view(), magnitude.view());
    for (const int team : {1, 2, 3}) {
      omp_set_num_threads(team);
      Padded dtable = before;
      ops::embedding_backward(view_of(std::span(indices)), dy.view(), dtable.view(), stream);
      // A stretch rounds at most 256 times, the end once more.
      test::expect_within(
          dtable, wanted,
          [&](Index r, Index i) {
            return std::min<double>(257, static_cast<double>(c.tokens)) * test::kHalfUlp * magnitude.at(r, i);
          },
          std::to_string(team) + " threads");
      if (team == 1) first = dtable;
      test::expect_same_bits(dtable, first, std::to_string(team) + " threads");
    }
  }
  omp_set_num_threads(threads);
}

// Five letters a million times: the error is that of sums of 256 numbers, a random walk of as many roundings.
TEST(EmbeddingOp, BackwardStaysExactOverAMillionTokens) {
  const Case c{1'000'000, 5, 3};
  Stream stream;
  const auto indices = random_indices(c);
  const Padded dy = Padded::normal({c.tokens, c.width}, 1);
  Padded dtable({c.rows, c.width}), wanted({c.rows, c.width});
  ops::embedding_backward(view_of(std::span(indices)), dy.view(), dtable.view(), stream);
  ops::ref::embedding_backward(view_of(std::span(indices)), dy.view(), wanted.view());
  double error = 0;
  for (Index r = 0; r < c.rows; ++r)
    for (Index i = 0; i < c.width; ++i) error += std::pow(static_cast<double>(dtable.at(r, i)) - wanted.at(r, i), 2);
  // Each of the 15 sums has 200 000 terms near one: as a vector its length is near the root of the terms' number.
  const double length = std::sqrt(static_cast<double>(c.tokens * c.width));
  EXPECT_LE(std::sqrt(error), std::sqrt(256.0) * test::kHalfUlp * length);
}

// <forward(table), dy> = <table, backward(dy)>: small integers, so both sides are exact.
TEST(EmbeddingOp, BackwardIsTheTransposeOfForward) {
  const Case c{50, 7, 9};
  Stream stream;
  const auto indices = random_indices(c);
  Padded table = Padded::normal({c.rows, c.width}, 1, 0, 0, 10), dy = Padded::normal({c.tokens, c.width}, 2, 0, 0, 10);
  table.for_each([](float& x) { x = std::round(x); });
  dy.for_each([](float& x) { x = std::round(x); });
  Padded y({c.tokens, c.width}), dtable({c.rows, c.width});
  ops::embedding_forward(view_of(std::span(indices)), table.view(), Write::overwrite, y.view(), stream);
  ops::embedding_backward(view_of(std::span(indices)), dy.view(), dtable.view(), stream);
  double forward = 0, backward = 0;
  for (Index t = 0; t < c.tokens; ++t)
    for (Index i = 0; i < c.width; ++i) forward += static_cast<double>(y.at(t, i)) * dy.at(t, i);
  for (Index r = 0; r < c.rows; ++r)
    for (Index i = 0; i < c.width; ++i) backward += static_cast<double>(table.at(r, i)) * dtable.at(r, i);
  EXPECT_EQ(forward, backward);
}

TEST(EmbeddingOpDeathTest, RefusesAnIndexOutsideTheTable) {
  Stream stream;
  const std::vector<std::int32_t> indices = {0, 3};
  Padded table({3, 2}), y({2, 2});
  EXPECT_DEATH(ops::embedding_forward(view_of(std::span(indices)), table.view(), Write::overwrite, y.view(), stream),
               "index 3 of 3");
  EXPECT_DEATH(ops::embedding_backward(view_of(std::span(indices)), y.view(), table.view(), stream), "index 3 of 3");
}

}  // namespace
}  // namespace plasmid
