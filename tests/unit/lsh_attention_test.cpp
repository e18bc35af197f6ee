// LSH attention on one rank: the host's kernels against the definition and against PyTorch's numbers.
#include <gtest/gtest.h>
#include <omp.h>

#include "runtime/device/simd.hpp"
#include "tests/support/lsh_run.hpp"
#include "tests/support/reference.hpp"

namespace plasmid {
namespace {

using test::LshCase;
using test::LshResult;

TEST(LshAttention, EqualsPyTorchUnderEveryInstructionSet) {
  PLASMID_SKIP_WITHOUT_REFERENCE();
  for (const Simd simd : {Simd::avx512, Simd::avx2, Simd::sse4, Simd::baseline}) {
    limit_simd(simd);
    for (const std::string& name : test::lsh_reference_names()) {
      const test::LshReference reference = test::read_lsh_reference(name);
      test::expect_lsh_close(test::run_lsh(reference.problem).result, reference.result, reference.problem, 2e-5,
                             name + ", " + name_of(simd));
    }
  }
  limit_simd(Simd::avx512);
}

TEST(LshAttention, EqualsTheDefinitionUnderEveryInstructionSet) {
  for (const Simd simd : {Simd::avx512, Simd::avx2, Simd::sse4, Simd::baseline}) {
    limit_simd(simd);
    for (const bool causal : {true, false})
      for (const Index d : {3, 20, 64}) {
        const LshCase problem = test::random_lsh_case({0, 170, 300}, 2, d, 8, {2, 45, causal, true}, 11);
        test::expect_lsh_close(test::run_lsh(problem).result, test::run_lsh_reference(problem), problem, 2e-6,
                               name_of(simd) + (causal ? " causal " : " ") + std::to_string(d));
      }
  }
  limit_simd(Simd::avx512);
}

std::vector<std::vector<Index>> lines() {
  return {{0, 64}, {0, 1}, {0, 40}, {0, 200}, {0, 97, 97, 98, 130, 131, 259}, {0, 3, 6, 40, 45, 90, 135}};
}

// Sums of up to 2 chunk * rounds terms near one, each of a few roundings: 2e-6 is 2^-24 times the root of 1000.
TEST(LshAttention, EqualsTheDefinition) {
  unsigned seed = 0;
  for (const auto& line : lines())
    for (const Index chunk : {1, 7, 16, 45, 64})
      for (const bool causal : {true, false})
        for (const bool same_bucket : {false, true})
          for (const PreviousChunk previous : {PreviousChunk::round, PreviousChunk::sorted}) {
            const Index d = ++seed % 3 == 0 ? 5 : seed % 3 == 1 ? 16 : 24, rounds = 1 + seed % 4;
            const LshCase problem =
                test::random_lsh_case(line, 2, d, 6, {rounds, chunk, causal, same_bucket, previous}, seed);
            const LshResult<float> exact = test::run_lsh_reference(problem), found = test::run_lsh(problem).result;
            const std::string what = std::to_string(line.back()) + " tokens, chunk " + std::to_string(chunk) +
                                     (causal ? " causal" : "") + (same_bucket ? " same bucket" : "") +
                                     (previous == PreviousChunk::sorted ? " sorted" : "") + " " +
                                     std::to_string(rounds);
            test::expect_lsh_close(found, exact, problem, 2e-6, what);
            for (std::size_t i = 0; i < exact.lse.size(); ++i)
              ASSERT_NEAR(found.lse[i], exact.lse[i], 2e-6 * std::max(1.0, std::abs(exact.lse[i]))) << what;
            if (testing::Test::HasFailure()) return;
          }
}

// Stretches of chunks differ with the team; the bits do not.
TEST(LshAttention, KeepsItsBitsForAnyNumberOfThreads) {
  for (const PreviousChunk previous : {PreviousChunk::round, PreviousChunk::sorted}) {
    const LshCase problem =
        test::random_lsh_case({0, 300, 301, 800, 1400}, 3, 16, 40, {3, 16, true, false, previous}, 4);
    const int before = omp_get_max_threads();
    omp_set_num_threads(1);
    const LshResult<float> one = test::run_lsh(problem).result;
    for (const int threads : {2, 3, 8}) {
      omp_set_num_threads(threads);
      const LshResult<float> several = test::run_lsh(problem).result;
      EXPECT_EQ(several.out, one.out) << threads;
      EXPECT_EQ(several.lse, one.lse) << threads;
      EXPECT_EQ(several.dqk, one.dqk) << threads;
      EXPECT_EQ(several.dv, one.dv) << threads;
    }
    omp_set_num_threads(before);
  }
}

TEST(LshAttention, ATokenAloneGetsItsOwnValueAndGradientExactly) {
  const LshCase problem = test::random_lsh_case({0, 1, 200}, 2, 8, 6, {5, 16, true, true}, 2);
  const LshResult<float> result = test::run_lsh(problem).result;
  for (std::size_t i = 0; i < 32; ++i) {  // a document of one token, and the first of a causal one
    EXPECT_EQ(result.out[i], problem.v[i]);
    if (i >= 16) continue;
    EXPECT_EQ(result.dqk[i], 0);
    EXPECT_NEAR(result.dv[i], problem.dout[i], 5 * 0x1p-24 * std::abs(problem.dout[i]));  // five rounds of a fifth
  }
}

TEST(LshAttention, ARowOfZerosHasNoDirection) {
  LshCase problem = test::random_lsh_case({0, 50}, 1, 8, 4, {2, 16, false}, 3);
  std::fill_n(problem.qk.begin() + 8 * 20, 8, 0.0f);
  test::expect_lsh_close(test::run_lsh(problem).result, test::run_lsh_reference(problem), problem, 2e-6, "a zero row");
}

}  // namespace
}  // namespace plasmid
