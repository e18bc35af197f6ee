#include "runtime/optim/optimizer.hpp"

#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>
#include <numeric>
#include <random>
#include <vector>

namespace plasmid {
namespace {

constexpr double kHalfUlp = 0x1p-24;

std::vector<float> normal(std::size_t n, unsigned seed) {
  std::mt19937 bits(seed);
  std::normal_distribution<float> draw;
  std::vector<float> values(n);
  for (float& value : values) value = draw(bits);
  return values;
}

// The algorithm as published, in f64.
struct Exact {
  std::vector<double> p, m, v;
  void step(const AdamW& o, int t, double scale, const std::vector<float>& gradient) {
    for (std::size_t i = 0; i < p.size(); ++i) {
      const double g = scale * gradient[i], b1 = o.beta1, b2 = o.beta2, rate = o.learning_rate;
      p[i] *= 1 - rate * o.decay;
      m[i] = b1 * m[i] + (1 - b1) * g;
      v[i] = b2 * v[i] + (1 - b2) * g * g;
      p[i] -= rate * (m[i] / (1 - std::pow(b1, t))) / (std::sqrt(v[i] / (1 - std::pow(b2, t))) + o.epsilon);
    }
  }
};

TEST(AdamW, FollowsThePublishedAlgorithmAndClearsTheGradient) {
  for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{37}, std::size_t{9001}}) {
    const AdamW o{.learning_rate = 3e-3f, .beta1 = 0.9f, .beta2 = 0.95f, .epsilon = 1e-8f, .decay = 0.1f};
    std::vector<float> p = normal(count, 1), m(count), v(count);
    Exact exact{{p.begin(), p.end()}, std::vector<double>(count), std::vector<double>(count)};
    constexpr int kSteps = 10;
    for (int t = 1; t <= kSteps; ++t) {
      std::vector<float> g = normal(count, 10 + static_cast<unsigned>(t));
      exact.step(o, t, 0.25f, g);
      adamw_step(o, t, 0.25f, p, g, m, v);
      EXPECT_EQ(std::accumulate(g.begin(), g.end(), 0.0f, [](float a, float b) { return a + std::abs(b); }), 0);
    }
    for (std::size_t i = 0; i < count; ++i) {
      // Per step, m and v collect three roundings of terms no larger than a scaled gradient (five deviations of 0.25)
      // and its square.
      ASSERT_NEAR(m[i], exact.m[i], 3 * kSteps * kHalfUlp * 1.25) << i;
      ASSERT_NEAR(v[i], exact.v[i], 3 * kSteps * kHalfUlp * 1.6) << i;
      // p collects two roundings of its own size and eight of a step, which is below 3 rates; m's error is divided by
      // sqrt(v) before it reaches p.
      const double root = std::sqrt(exact.v[i]) + 1e-3;
      const double step = 3e-3 * (8 * 3 + 3 * kSteps * 1.25 / root);
      ASSERT_NEAR(p[i], exact.p[i], kSteps * kHalfUlp * (2 * std::abs(exact.p[i]) + step)) << i;
    }
  }
}

TEST(AdamW, BitsDoNotDependOnHowARangeIsCut) {
  constexpr std::size_t kCount = 10'007;
  const AdamW o;
  const std::vector<float> p0 = normal(kCount, 1), g0 = normal(kCount, 2), m0 = normal(kCount, 3);
  std::vector<float> v0 = normal(kCount, 4);
  for (float& v : v0) v = std::abs(v);
  const auto run = [&](std::vector<std::size_t> cuts) {
    std::vector<float> p = p0, g = g0, m = m0, v = v0;
    cuts.push_back(kCount);
    std::size_t begin = 0;
    for (const std::size_t end : cuts) {
      const auto part = [&](std::vector<float>& all) { return std::span(all).subspan(begin, end - begin); };
      adamw_step(o, 3, 0.5f, part(p), part(g), part(m), part(v));
      begin = end;
    }
    p.insert(p.end(), m.begin(), m.end()), p.insert(p.end(), v.begin(), v.end());
    return p;
  };
  const int threads = omp_get_max_threads();
  const std::vector<float> whole = run({});
  EXPECT_EQ(run({1, 2, 35, 5000, 9999}), whole);
  omp_set_num_threads(3);
  EXPECT_EQ(run({}), whole);
  omp_set_num_threads(threads);
}

TEST(SumOfSquares, IsExactWhereF64IsAndTheSameForAnyTeam) {
  const int threads = omp_get_max_threads();
  for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{13}, std::size_t{200'003}}) {
    std::vector<float> integers(count);
    double wanted = 0;
    for (std::size_t i = 0; i < count; ++i)
      integers[i] = static_cast<float>(i % 4097) - 2000, wanted += static_cast<double>(integers[i]) * integers[i];
    EXPECT_EQ(sum_of_squares(integers), wanted) << count;  // sums of integers below 2^53 are exact
    const std::vector<float> values = normal(count, 1);
    omp_set_num_threads(1);
    const double alone = sum_of_squares(values);
    omp_set_num_threads(3);
    EXPECT_EQ(sum_of_squares(values), alone);
    omp_set_num_threads(threads);
  }
}

TEST(ClipFactor, ShortensToTheNormButNeverLengthens) {
  EXPECT_EQ(clip_factor(5, 0), 1);
  EXPECT_EQ(clip_factor(0.5, 1), 1);
  EXPECT_EQ(clip_factor(0, 1), 1);
  EXPECT_EQ(clip_factor(4, 1), 1 / (4 + 1e-6));
}

TEST(LearningRate, RisesHoldsAndFalls) {
  ScheduleOptions o{.kind = Schedule::constant, .peak = 2, .final = 0.5, .warmup_steps = 4, .steps = 12};
  EXPECT_EQ(learning_rate(o, 1), 0.5);
  EXPECT_EQ(learning_rate(o, 4), 2);
  EXPECT_EQ(learning_rate(o, 12), 2);
  o.kind = Schedule::linear;
  EXPECT_EQ(learning_rate(o, 4), 2);
  EXPECT_EQ(learning_rate(o, 8), 1.25);
  EXPECT_EQ(learning_rate(o, 12), 0.5);
  EXPECT_EQ(learning_rate(o, 15), 0.5) << "a run that goes on past its schedule stays at the end";
  o.kind = Schedule::cosine;
  EXPECT_NEAR(learning_rate(o, 6), 0.5 + 0.75 * (1 + std::sqrt(0.5)), 1e-15 * 4);
  EXPECT_NEAR(learning_rate(o, 8), 1.25, 1e-15 * 4);
  EXPECT_EQ(learning_rate(o, 12), 0.5);
  o.warmup_steps = 0;
  EXPECT_LT(learning_rate(o, 1), 2);
  EXPECT_EQ(learning_rate(o, 12), 0.5);
  o = {.kind = Schedule::linear, .peak = 1, .final = 0, .warmup_steps = 5, .steps = 5};
  EXPECT_EQ(learning_rate(o, 5), 1) << "all warm-up, no fall";
}

}  // namespace
}  // namespace plasmid
