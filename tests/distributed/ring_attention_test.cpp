// Sharded attention equals that of one rank, for every layout, mask and number of ranks.
#include <gtest/gtest.h>

#include "tests/support/expect_error.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/reference.hpp"
#include "tests/support/reference_attention.hpp"
#include "tests/support/ring_probe.hpp"
#include "tests/support/ring_run.hpp"

namespace plasmid {
namespace {

using test::AttentionCase;
using test::AttentionResult;
using test::on_ranks;
using test::RingRun;
using test::TokenLine;

constexpr Layout kLayouts[] = {Layout::contiguous, Layout::zigzag};

using MakeKernel = std::unique_ptr<AttentionKernel> (*)();  // a kernel serves one rank

class RingAttentionTest : public testing::TestWithParam<test::RankSet> {};

// Errors against f64, in units of the error that the same sums have in plain f32 on one rank.
void expect_equal_to_one_rank(const test::RankSet& ranks, const TokenLine& line, const AttentionCase& problem,
                              MakeKernel make_kernel) {
  const AttentionResult<double> exact = test::dense_attention<double>(problem);
  const AttentionResult<float> single = test::dense_attention<float>(problem);
  for (const Layout layout : kLayouts) {
    const TokenLine split = line.split(ranks.size, layout);
    on_ranks(ranks, [&](Communicator& ring) {
      const auto kernel = make_kernel();
      const RingRun run = test::run_ring(ring, *kernel, split, problem);
      if (ring.rank() > 0 && ranks.backend == test::Backend::threads) return;
      test::expect_close(run.result, exact, single, 4, line.name + (layout == Layout::zigzag ? " zigzag" : ""));
    });
  }
}

void expect_equal_to_one_rank(const test::RankSet& ranks, const TokenLine& line, Index heads, Index kv_heads, Index d,
                              MakeKernel make_kernel) {
  expect_equal_to_one_rank(ranks, line, test::problem_of(line, heads, kv_heads, d, 17), make_kernel);
}

TEST_P(RingAttentionTest, EqualsOneRankForEveryLine) {
  for (const TokenLine& line : test::token_lines())
    expect_equal_to_one_rank(GetParam(), line, 2, 2, 16, make_host_kernel);
}

TEST_P(RingAttentionTest, EqualsOneRankWhereTwoBytesAreStoredAndSent) {
  for (const TokenLine& line : test::token_lines())
    for (const MakeKernel make_kernel : {make_host_kernel, make_reference_kernel})
      expect_equal_to_one_rank(GetParam(), line, test::rounded_case(test::problem_of(line, 4, 2, 8, 17)), make_kernel);
}

TEST_P(RingAttentionTest, EqualsOneRankWithGroupedQueries) {
  for (const TokenLine& line : test::token_lines())
    expect_equal_to_one_rank(GetParam(), line, 6, 2, 8, make_host_kernel);
}

TEST_P(RingAttentionTest, EqualsOneRankWithTheReferenceKernel) {
  for (const TokenLine& line : test::token_lines())
    expect_equal_to_one_rank(GetParam(), line, 2, 1, 4, make_reference_kernel);
}

TEST_P(RingAttentionTest, EqualsTheReferenceNumbers) {
  PLASMID_SKIP_WITHOUT_REFERENCE();
  for (const char* name : {"full", "causal", "causal_odd", "window_causal", "window_both", "grouped_causal",
                           "documents", "empty_rows", "large_scores"}) {
    const test::ReferenceAttention reference = test::read_reference_attention(name);
    const AttentionResult<float> plain = test::dense_attention<float>(reference.problem);
    for (const Layout layout : kLayouts) {
      const TokenLine split = reference.line.split(GetParam().size, layout);
      on_ranks(GetParam(), [&](Communicator& ring) {
        const auto kernel = make_host_kernel();
        const RingRun run = test::run_ring(ring, *kernel, split, reference.problem);
        if (ring.rank() > 0 && GetParam().backend == test::Backend::threads) return;
        test::expect_close(run.result, reference.result, plain, 4, name);
      });
    }
  }
}

// The rules that masks are planned by, against the mask that the file spells out pair by pair.
TEST(RingAttentionReference, MasksAreThoseOfTheFiles) {
  PLASMID_SKIP_WITHOUT_REFERENCE();
  for (const char* name : {"full", "causal", "causal_odd", "window_causal", "window_both", "grouped_causal",
                           "documents", "empty_rows", "large_scores"}) {
    const test::ReferenceAttention reference = test::read_reference_attention(name);
    const Index n = reference.line.length;
    for (Index i = 0; i < reference.line.total(); ++i)
      for (Index j = 0; j < reference.line.total(); ++j) {
        const bool allowed = i / n == j / n && reference.allowed[static_cast<std::size_t>(i * n + j % n)] != 0;
        ASSERT_EQ(reference.problem.mask.allows(i, j), allowed) << name << " " << i << ", " << j;
      }
  }
}

// A kernel that fails on one rank in the middle of a turn: the others are released, and the reason is what is reported.
TEST(RingAttentionFailure, OneRanksErrorEndsTheTurnOfAll) {
  const TokenLine line = TokenLine{"", 1, 64, Pattern::full(), {}, {}, {}}.split(4, Layout::zigzag);
  const AttentionCase problem = test::problem_of(line, 2, 2, 8, 1);
  for (const int failing_call : {0, 1, 3, 4, 5, 7}) {  // of eight: four hops forward, four backward
    const auto turn = [&](Communicator& ring) {
      int calls = 0;
      test::IdleKernel kernel([&](const Attend&) {
        if (calls++ == failing_call && ring.rank() == 2) throw Error(ErrorCode::memory, "no room on rank 2");
      });
      test::run_ring(ring, kernel, line, problem);
    };
    expect_error(ErrorCode::memory, {"no room on rank 2"}, [&] { test::run_ranks(4, turn); });
  }
}

TEST_P(RingAttentionTest, RepeatsToTheBit) {
  const TokenLine line = TokenLine{"", 1, 90, Pattern::causal(), {}, {}, {}}.split(GetParam().size, Layout::zigzag);
  const AttentionCase problem = test::problem_of(line, 2, 1, 16, 3);
  on_ranks(GetParam(), [&](Communicator& ring) {
    const auto kernel = make_host_kernel();
    const auto a = test::run_ring(ring, *kernel, line, problem).result;
    const auto b = test::run_ring(ring, *kernel, line, problem).result;
    ASSERT_EQ(a.out, b.out);
    ASSERT_EQ(a.lse, b.lse);
    ASSERT_EQ(a.dq, b.dq);
    ASSERT_EQ(a.dk, b.dk);
    ASSERT_EQ(a.dv, b.dv);
  });
}

PLASMID_INSTANTIATE_ON_RANKS(RingAttentionTest, test::rank_sets());

}  // namespace
}  // namespace plasmid
