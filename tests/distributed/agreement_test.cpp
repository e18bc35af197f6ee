#include "parallel/checkpoint/agreement.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <new>

#include "tests/support/ranks.hpp"

namespace plasmid {
namespace {

class AgreementTest : public testing::TestWithParam<test::RankSet> {};

TEST_P(AgreementTest, TheHighestCodeOfTheLowestRankIsEveryonesWord) {
  test::on_ranks(GetParam(), [&](Communicator& ranks) {
    EXPECT_FALSE(error_agreed(ranks, [] {}));
    EXPECT_EQ(run_agreed(ranks, [] {}), "");
    const int last = ranks.size() - 1;
    const auto error = error_agreed(ranks, [&] {
      if (ranks.rank() == last) throw Error(ErrorCode::io, "a disk of the last");
      throw Error(ErrorCode::data, "damage");
    });
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), ErrorCode::io);
    EXPECT_EQ(std::string(error->what()),
              (last > 0 ? "rank " + std::to_string(last) + ": " : "") + "a disk of the last");
    EXPECT_EQ(run_agreed(ranks, [&] { throw Error(ErrorCode::data, "of " + std::to_string(ranks.rank())); }), "of 0");
  });
}

TEST_P(AgreementTest, OtherExceptionsHaveCodesToo) {
  test::on_ranks(GetParam(), [&](Communicator& ranks) {
    const auto code = [&](const std::function<void()>& work) { return error_agreed(ranks, work)->code(); };
    EXPECT_EQ(code([] { throw std::bad_alloc(); }), ErrorCode::memory);
    EXPECT_EQ(code([] { (void)std::filesystem::file_size("/absent"); }), ErrorCode::io);
    EXPECT_EQ(code([] { throw std::runtime_error("?"); }), ErrorCode::software);
  });
}

PLASMID_INSTANTIATE_ON_RANKS(AgreementTest, test::rank_sets());

}  // namespace
}  // namespace plasmid
