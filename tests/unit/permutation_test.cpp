#include "runtime/data/permutation.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace plasmid {
namespace {

TEST(Permutation, MeetsEveryElementOnce) {
  for (const Index n : {1, 2, 3, 4, 5, 16, 17, 1000, 4096, 4097})
    for (std::uint64_t epoch = 0; epoch < 3; ++epoch) {
      std::vector<int> met(static_cast<std::size_t>(n));
      for (Index i = 0; i < n; ++i) ++met[static_cast<std::size_t>(permuted(i, n, 7, epoch))];
      EXPECT_EQ(std::count(met.begin(), met.end(), 1), n) << n << ", epoch " << epoch;
    }
}

TEST(Permutation, TakesLinesOfAnyLength) {
  for (const Index n : {Index{1} << 40, (Index{1} << 40) + 1, INT64_MAX / 2})
    for (Index i = 0; i < 100; ++i) {
      const Index to = permuted(i, n, 1, 0);
      EXPECT_TRUE(0 <= to && to < n);
    }
}

// Where element i lands is uniform over seeds and epochs, and where i + 1 lands is uniform given that: chi-square, with
// n * (n - 1) cells and a bound 5 standard deviations above its mean.
TEST(Permutation, IsFair) {
  constexpr Index n = 11, draws = 60'000;
  for (const bool by_seed : {true, false}) {
    std::vector<double> count(n * n);
    for (std::uint64_t draw = 0; draw < draws; ++draw) {
      const std::uint64_t seed = by_seed ? draw : 3, epoch = by_seed ? 0 : draw;
      const Index first = permuted(4, n, seed, epoch), second = permuted(5, n, seed, epoch);
      ++count[static_cast<std::size_t>(first * n + second)];
    }
    constexpr double cells = n * (n - 1), expected = draws / cells;
    double square = 0;
    for (Index first = 0; first < n; ++first)
      for (Index second = 0; second < n; ++second) {
        const double found = count[static_cast<std::size_t>(first * n + second)];
        if (first == second) {
          EXPECT_EQ(found, 0);
        } else {
          square += (found - expected) * (found - expected) / expected;
        }
      }
    EXPECT_LT(square, cells - 1 + 5 * std::sqrt(2 * (cells - 1)));
  }
}

}  // namespace
}  // namespace plasmid
