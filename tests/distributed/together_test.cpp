// Ranks that refuse a job together, and agree on what they share.
#include "launcher/bootstrap/together.hpp"

#include <gtest/gtest.h>

#include "launcher/bootstrap/team.hpp"
#include "runtime/base/error.hpp"
#include "tests/support/ranks.hpp"

namespace plasmid {
namespace {

class TogetherTest : public testing::TestWithParam<test::RankSet> {};

TEST_P(TogetherTest, PassesWhereNobodyThrows) {
  test::on_ranks(GetParam(), [](Communicator& ranks) { EXPECT_NO_THROW(together(ranks, [] {})); });
}

TEST_P(TogetherTest, TheLowestFailingRankSpeaksForAll) {
  test::on_ranks(GetParam(), [](Communicator& ranks) {
    const int last = ranks.size() - 1, speaker = std::min(1, last);
    try {
      together(ranks, [&] {
        if (ranks.rank() == speaker) throw Error(ErrorCode::no_input, "first\nline");
        if (ranks.rank() == last) throw Error(ErrorCode::config, "of no interest");
      });
      ADD_FAILURE() << "rank " << ranks.rank() << " went on";
    } catch (const Refusal& refusal) {
      EXPECT_EQ(refusal.exit_status, 66);
      EXPECT_EQ(refusal.line, ranks.rank() == speaker ? "first line" : "");
    }
    EXPECT_EQ(ranks.agree_max(1), 1u);  // the group is still in step
  });
}

TEST_P(TogetherTest, ATeamIsAgreedUpon) {
  if (GetParam().backend == test::Backend::threads) GTEST_SKIP() << "the settings are the process's: one rank has them";
  test::on_ranks(GetParam(), [](Communicator& ranks) {
    Team team;
    together(ranks, [&] { team = form_team(ranks); });
    EXPECT_LE(team.simd, widest_simd());
    EXPECT_EQ(ranks.agree_max(static_cast<std::uint64_t>(team.simd)), static_cast<std::uint64_t>(team.simd));
    EXPECT_GE(team.threads, 1);
    EXPECT_LE(team.ranks_here, ranks.size());
    EXPECT_LE(team.hosts, ranks.size());
  });
}

TEST(Describe, EveryExceptionHasAStatusAndOneLine) {
  EXPECT_EQ(describe(Error(ErrorCode::data, "a\tb")).line, "a b");
  EXPECT_EQ(describe(Error(ErrorCode::data, "")).exit_status, 65);
  EXPECT_EQ(describe(std::bad_alloc()).exit_status, 71);
  EXPECT_EQ(describe(std::runtime_error("x")).exit_status, 70);
}

PLASMID_INSTANTIATE_ON_RANKS(TogetherTest, test::rank_sets());

}  // namespace
}  // namespace plasmid
