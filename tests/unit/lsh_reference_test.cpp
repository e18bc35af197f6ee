// The definition of LSH attention against PyTorch's numbers in f64, and what its text promises.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/lsh_case.hpp"
#include "tests/support/reference.hpp"

namespace plasmid {
namespace {

using test::LshCase;
using test::LshResult;

TEST(LshReference, EqualsPyTorch) {
  PLASMID_SKIP_WITHOUT_REFERENCE();
  for (const std::string& name : test::lsh_reference_names()) {
    const test::LshReference reference = test::read_lsh_reference(name);
    test::expect_lsh_close(test::run_lsh_reference(reference.problem), reference.result, reference.problem, 2e-5, name);
  }
}

TEST(LshReference, EqualsPyTorchInEachRoundsLse) {
  PLASMID_SKIP_WITHOUT_REFERENCE();
  for (const std::string& name : test::lsh_reference_names()) {
    const test::LshReference reference = test::read_lsh_reference(name);
    const LshCase& problem = reference.problem;
    std::vector<float> out(problem.qk.size());
    std::vector<double> lse(out.size() / static_cast<std::size_t>(problem.d)), round_lse(reference.round_lse.size());
    const Shape rounds{problem.heads, problem.options.rounds, problem.tokens()};
    lsh_reference_forward(problem.input(), problem.options, problem.rows(out),
                          view_of(std::span(lse)).reshape({problem.tokens(), problem.heads}),
                          view_of(std::span(round_lse)).reshape(rounds));
    for (std::size_t i = 0; i < round_lse.size(); ++i)
      ASSERT_NEAR(round_lse[i], reference.round_lse[i], 2e-5 * std::max(1.0, std::abs(reference.round_lse[i])))
          << name << " " << i;
  }
}

// The gradients of <out, dout> against central differences along random directions. The buckets stay.
TEST(LshReference, GradientsAreDerivatives) {
  for (const PreviousChunk previous : {PreviousChunk::round, PreviousChunk::sorted})
    for (const bool causal : {true, false}) {
      LshCase problem = test::random_lsh_case({0, 21, 22, 60}, 2, 8, 4, {3, 8, causal, false, previous}, 5);
      const LshResult<float> exact = test::run_lsh_reference(problem);
      for (const auto& [tensor, gradient] : {std::pair{&problem.qk, &exact.dqk}, std::pair{&problem.v, &exact.dv}}) {
        const LshCase direction = test::random_lsh_case({0, 60}, 2, 8, 4, {3, 8}, 6);
        const std::vector<float> base = *tensor;
        const auto phi = [&](double step) {
          for (std::size_t i = 0; i < base.size(); ++i)
            (*tensor)[i] = static_cast<float>(base[i] + step * direction.qk[i]);
          const LshResult<float> moved = test::run_lsh_reference(problem);
          double sum = 0;
          for (std::size_t i = 0; i < base.size(); ++i) sum += static_cast<double>(moved.out[i]) * problem.dout[i];
          return sum;
        };
        // The differences' own error falls with the fourth power of the step; rounding of inputs and outputs, about
        // 2^-24 of each of 1000 terms, is divided by it.
        const double step = 1.0 / 64, d1 = (phi(step) - phi(-step)) / (2 * step),
                     d2 = (phi(2 * step) - phi(-2 * step)) / (4 * step);
        double wanted = 0;
        for (std::size_t i = 0; i < base.size(); ++i) wanted += static_cast<double>((*gradient)[i]) * direction.qk[i];
        *tensor = base;
        EXPECT_NEAR((4 * d1 - d2) / 3, wanted, 2e-4 * std::abs(wanted) + 32 * 0x1p-24 / step * 32);
      }
    }
}

// What stands in a line beside a document does not matter.
TEST(LshReference, DocumentsAreAlone) {
  for (const PreviousChunk previous : {PreviousChunk::round, PreviousChunk::sorted}) {
    const LshOptions options{2, 8, false, false, previous};
    const std::vector<Index> begin = {0, 1, 7, 15, 44, 44, 70};
    const LshCase whole = test::random_lsh_case(begin, 2, 4, 6, options, 9);
    const LshResult<float> packed = test::run_lsh_reference(whole);
    for (std::size_t i = 0; i + 1 < begin.size(); ++i) {
      LshCase one = test::random_lsh_case({0, begin[i + 1] - begin[i]}, 2, 4, 6, options, 1);
      const auto rows = [&](const std::vector<float>& all) {
        return std::vector<float>(all.begin() + begin[i] * 8, all.begin() + begin[i + 1] * 8);
      };
      one.qk = rows(whole.qk), one.v = rows(whole.v), one.dout = rows(whole.dout);
      for (Index set = 0; set < 4; ++set)
        for (Index t = 0; t < one.tokens(); ++t)
          one.buckets[static_cast<std::size_t>(set * one.tokens() + t)] =
              whole.buckets[static_cast<std::size_t>(set * whole.tokens() + begin[i] + t)];
      const LshResult<float> alone = test::run_lsh_reference(one);
      EXPECT_EQ(alone.out, rows(packed.out)) << i;
      EXPECT_EQ(alone.dqk, rows(packed.dqk)) << i;
      EXPECT_EQ(alone.dv, rows(packed.dv)) << i;
    }
  }
}

TEST(LshReference, AlonelyTokenGetsItsOwnValue) {
  LshCase problem = test::random_lsh_case({0, 1, 33}, 1, 4, 4, {4, 8, true, true}, 2);
  const LshResult<float> result = test::run_lsh_reference(problem);
  for (const std::size_t token : {0, 1})  // a document of one token, and the first of a causal one
    for (std::size_t c = 0; c < 4; ++c) {
      EXPECT_EQ(result.out[token * 4 + c], problem.v[token * 4 + c]);
      EXPECT_EQ(result.lse[token], -5e4 + std::log(4.0));
    }
}

TEST(LshChunks, LastOneHoldsWhatIsLeft) {
  const std::vector<LshChunk> chunks = cut_chunks(std::vector<Index>{0, 8, 8, 20, 23}, 8);
  ASSERT_EQ(chunks.size(), 4u);
  const Range places[] = {{0, 8}, {8, 16}, {16, 20}, {20, 23}};
  const std::int32_t previous[] = {-1, 2, 1, -1}, next[] = {-1, 2, 1, -1};
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(chunks[i].places, places[i]);
    EXPECT_EQ(chunks[i].previous, previous[i]);
    EXPECT_EQ(chunks[i].next, next[i]);
    EXPECT_EQ(chunks[i].wraps, i == 1);
  }
}

}  // namespace
}  // namespace plasmid
