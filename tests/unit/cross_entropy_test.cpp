#include "runtime/ops/cross_entropy.hpp"

#include <omp.h>

#include <cmath>

#include "tests/support/padded.hpp"
#include "tests/support/slope.hpp"

namespace plasmid {
namespace {

using test::kHalfUlp;
using test::Padded;

struct Chunk {
  Padded logits;
  std::vector<std::int32_t> labels;  // every fifth does not count
  ConstView label_view() const { return view_of(std::span(labels)); }
};

Chunk random_chunk(Index tokens, Index vocabulary, Index gap, float deviation) {
  Chunk chunk{Padded::normal({tokens, vocabulary}, 1, gap, 0, deviation), {}};
  std::mt19937 bits(2);
  std::uniform_int_distribution<std::int32_t> draw(0, static_cast<std::int32_t>(vocabulary - 1));
  for (Index t = 0; t < tokens; ++t) chunk.labels.push_back(t % 5 == 3 ? -1 : draw(bits));
  return chunk;
}

template <class Body>
void for_each_chunk(Body&& body) {
  for (const Shape size : {Shape{0, 5}, Shape{1, 1}, Shape{9, 5}, Shape{70, 256}, Shape{7, 50'257}, Shape{33, 1023}})
    for (const Index gap : {0, 3})
      for (const float deviation : {1.0f, 30.0f}) body(random_chunk(size[0], size[1], gap, deviation), size);
}

// exp(x - top): the difference is rounded, which counts by its size (the larger ones vanish in the sum), Exp has 1 ulp;
// f32 sums run in four chains of at least four lanes over stretches of 4096.
double sum_error(Index vocabulary) {
  return (static_cast<double>(std::min<Index>(vocabulary, 4096)) / 16 + 16) * kHalfUlp;
}

TEST(CrossEntropy, ForwardEqualsItsDefinition) {
  Stream stream;
  for_each_chunk([&](const Chunk& chunk, Shape size) {
    Padded lse({size[0]}), wanted({size[0]});
    const double loss = ops::cross_entropy_forward(chunk.logits.view(), chunk.label_view(), lse.view(), stream);
    const double exact = ops::ref::cross_entropy_forward(chunk.logits.view(), chunk.label_view(), wanted.view());
    test::expect_within(
        lse, wanted, [&](Index t, Index) { return sum_error(size[1]) + 2 * kHalfUlp * std::abs(wanted.at(t)); },
        to_string(size));
    EXPECT_NEAR(loss, exact, static_cast<double>(size[0]) * sum_error(size[1])) << to_string(size);
  });
}

TEST(CrossEntropy, BackwardEqualsItsDefinition) {
  Stream stream;
  for_each_chunk([&](const Chunk& chunk, Shape size) {
    Padded lse({size[0]});
    ops::ref::cross_entropy_forward(chunk.logits.view(), chunk.label_view(), lse.view());
    constexpr float kScale = 0.125f;
    Padded found = chunk.logits, wanted = chunk.logits;
    ops::cross_entropy_backward(found.view(), chunk.label_view(), lse.view(), kScale, stream);
    ops::ref::cross_entropy_backward(wanted.view(), chunk.label_view(), lse.view(), kScale);
    const auto bound = [&](Index t, Index v) {
      if (chunk.labels[static_cast<std::size_t>(t)] < 0) return 0.0;
      const double below = std::abs(static_cast<double>(chunk.logits.at(t, v)) - lse.at(t));
      const double softmax = std::exp(-below);
      return kScale * ((below + 6) * kHalfUlp * softmax + 2 * kHalfUlp) + 0x1p-140;
    };
    test::expect_within(found, wanted, bound, to_string(size));
  });
}

TEST(CrossEntropy, LossIsTheSameForAnyNumberOfThreads) {
  const int threads = omp_get_max_threads();
  Stream stream;
  const Chunk chunk = random_chunk(300, 256, 0, 3);
  Padded lse({300});
  std::vector<double> losses;
  for (const int team : {1, 2, 3}) {
    omp_set_num_threads(team);
    losses.push_back(ops::cross_entropy_forward(chunk.logits.view(), chunk.label_view(), lse.view(), stream));
  }
  EXPECT_EQ(losses[0], losses[1]);
  EXPECT_EQ(losses[0], losses[2]);
  omp_set_num_threads(threads);
}

TEST(CrossEntropy, ConfidentAndHugeLogitsStayFinite) {
  Stream stream;
  Padded logits({2, 3}), lse({2});
  logits.at(0, 0) = 1e30f, logits.at(0, 1) = -1e30f, logits.at(1, 2) = -3e38f;
  const std::vector<std::int32_t> labels = {0, 0};
  const double loss = ops::cross_entropy_forward(logits.view(), view_of(std::span(labels)), lse.view(), stream);
  EXPECT_NEAR(loss, std::log(2.0), 4 * kHalfUlp);  // the first row is certain, the second a toss-up of two
  ops::cross_entropy_backward(logits.view(), view_of(std::span(labels)), lse.view(), 1, stream);
  const double wanted[2][3] = {{0, 0, 0}, {-0.5, 0.5, 0}};
  for (Index t = 0; t < 2; ++t)
    for (Index v = 0; v < 3; ++v) EXPECT_NEAR(logits.at(t, v), wanted[t][v], 4 * kHalfUlp) << t << ", " << v;
}

TEST(CrossEntropy, DefinitionOfBackwardIsTheSlopeOfForward) {
  const Chunk chunk = random_chunk(6, 11, 0, 2);
  const Padded logits = test::on_grid(chunk.logits), v = test::signs({6, 11}, 3);
  Padded lse({6}), gradient = logits;
  const auto loss = [&](double s) {
    return ops::ref::cross_entropy_forward(test::moved(logits, v, s).view(), chunk.label_view(), lse.view());
  };
  loss(0);
  ops::ref::cross_entropy_backward(gradient.view(), chunk.label_view(), lse.view(), 1);
  // The loss is f64; only lse, through which the gradient is formed, is rounded.
  double lse_rounding = 0;
  for (Index t = 0; t < 6; ++t) lse_rounding += kHalfUlp * (std::abs(lse.at(t)) + 1) * 2;
  test::expect_slope(loss, test::inner(gradient, v), lse_rounding * test::kStep, "cross-entropy");
}

TEST(CrossEntropyDeathTest, RefusesALabelOutsideTheVocabulary) {
  Stream stream;
  Padded logits({1, 4}), lse({1});
  const std::vector<std::int32_t> labels = {4};
  EXPECT_DEATH(ops::cross_entropy_forward(logits.view(), view_of(std::span(labels)), lse.view(), stream),
               "label 4 of 4");
}

}  // namespace
}  // namespace plasmid
