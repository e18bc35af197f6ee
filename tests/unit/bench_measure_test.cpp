#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "launcher/bench/measure.hpp"
#include "launcher/bench/ring_prediction.hpp"

namespace plasmid::bench {
namespace {

std::vector<double> one_to(int n) {
  std::vector<double> values(static_cast<std::size_t>(n));
  std::iota(values.rbegin(), values.rend(), 1.0);
  return values;
}

double binomial(int n, int k) { return std::exp(std::lgamma(n + 1) - std::lgamma(k + 1) - std::lgamma(n - k + 1)); }

// P(the k-th smallest and k-th largest of n hold the median) = 1 - 2 P(fewer than k heads in n throws).
double coverage(int n, int k) {
  double outside = 0;
  for (int i = 0; i < k; ++i) outside += 2 * binomial(n, i) * std::pow(0.5, n);
  return 1 - outside;
}

TEST(SpreadOf, IsTheNarrowestPairOfOrderStatisticsThatHoldsTheMedian) {
  for (int n = 5; n < 200; ++n) {
    const Spread spread = spread_of(one_to(n));
    EXPECT_EQ(spread.median, (n + 1) / 2.0);
    const int k = static_cast<int>(spread.low);
    EXPECT_EQ(spread.high, n + 1 - k);
    EXPECT_TRUE(coverage(n, k) > 15.0 / 16 - 1e-9 || k == 1) << n << " values, from the " << k << "th";
    EXPECT_LT(coverage(n, k + 1), 15.0 / 16) << n << " values: narrower would do";
  }
}

// Of 2000 values the ranks lie about sqrt(n) apart: 1.86 standard deviations of sqrt(n) / 2 to each side.
TEST(SpreadOf, HoldsForThousandsOfValues) {
  const Spread spread = spread_of(one_to(2000));
  EXPECT_NEAR(spread.low, 1000.5 - 1.863 * std::sqrt(2000) / 2, 2);
  EXPECT_NEAR(spread.high, 1000.5 + 1.863 * std::sqrt(2000) / 2, 2);
}

TEST(SpreadOf, OneValueIsItsOwnSpread) {
  const Spread spread = spread_of({3});
  EXPECT_EQ(spread.median, 3);
  EXPECT_EQ(spread.width(), 0);
  EXPECT_TRUE(spread.holds(3));
}

TEST(Pair, RatiosAndDifferencesGoCallByCall) {
  Pair pair;
  for (const auto& [a, b] : {std::pair{1.0, 2.0}, {10.0, 20.0}, {100.0, 200.0}, {3.0, 6.0}, {5.0, 10.0}}) {
    pair.a.all.push_back({a, 7, 7});
    pair.b.all.push_back({b, 7, 7 * b});
  }
  EXPECT_EQ(pair.ratio(Clock::wall).low, 2);
  EXPECT_EQ(pair.ratio(Clock::wall).high, 2);  // though the times of either lie a hundredfold apart
  EXPECT_EQ(pair.ratio(Clock::thread).high, 200);
  EXPECT_EQ(pair.difference(Clock::wall), (std::vector<double>{1, 10, 100, 3, 5}));
}

TEST(Alternate, CallsInTurnAfterOneOfEach) {
  std::string calls;
  const Pair pair = alternate(
      3, [&] { calls += 'a'; }, [&] { calls += 'b'; });
  EXPECT_EQ(calls, "abababab");
  EXPECT_EQ(pair.a.all.size(), 3u);
  EXPECT_EQ(pair.b.all.size(), 3u);
}

TEST(Repeat, WarmsUpOnceAndCallsBetween) {
  std::string calls;
  const Series series = repeat(
      2, [&] { calls += 'w'; }, nullptr, [&] { calls += '-'; });
  EXPECT_EQ(calls, "w-w-w");
  EXPECT_EQ(series.all.size(), 2u);
}

TEST(LinkOf, TellsLatencyFromRate) {
  const Link link = link_of(4096, 1e-4 + 4096 / 1e8, 1 << 20, 1e-4 + (1 << 20) / 1e8);
  EXPECT_NEAR(link.latency, 1e-4, 1e-9);
  EXPECT_NEAR(link.bytes_per_second, 1e8, 1e3);
  const Link slow = link_of(4096, 9e-5, 8192, 1e-4);  // nearly all latency
  EXPECT_NEAR(slow.latency, 8e-5, 1e-6);
  EXPECT_GE(link_of(4, 2e-6, 64, 1e-6).latency, 0);  // noise
}

}  // namespace
}  // namespace plasmid::bench
