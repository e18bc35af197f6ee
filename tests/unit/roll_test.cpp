#include "launcher/watchdog/roll.hpp"

#include <gtest/gtest.h>

namespace plasmid {
namespace {

constexpr double kTimeout = 10, kPatience = 2;

RankState state(const char* operation, bool waits, double idle, std::uint64_t number = 7, Index step = 5) {
  return state_of({operation, 3, waits, number, 0}, idle, step);
}

Roll of_three() { return Roll({"n1", "n1", "n2"}); }

bool contains(const std::optional<std::string>& line, const std::string& part) {
  return line && line->find(part) != std::string::npos;
}

TEST(Roll, AJobGoesOnWhileOneRankMakesProgress) {
  Roll roll = of_three();
  roll.hear(0, state("all_reduce", true, 100), 50);
  roll.hear(1, state("all_reduce", true, 100), 50);
  roll.hear(2, state("exchange", false, 9.5), 50);
  EXPECT_FALSE(roll.stuck(50, kTimeout, kPatience));
  EXPECT_FALSE(roll.lost(50));
  EXPECT_TRUE(roll.stuck(50.5, kTimeout, kPatience)) << "unheard since, it has shown nothing for 10 s";
}

TEST(Roll, SilenceIsBlamedBeforeAnythingElse) {
  Roll roll = of_three();
  roll.hear(0, state("all_reduce", true, 11), 50);
  roll.hear(1, state("all_reduce", false, 11), 50);
  roll.hear(2, state("exchange", true, 0, 6), 39);
  EXPECT_EQ(roll.stuck(50, kTimeout, kPatience).value_or(""),
            "no rank has made progress for 10 s (train.timeout_seconds): rank 2 on host n2 is silent, last heard 11 s "
            "ago in step 5, in exchange of 3 ranks (its operation 6); rank 0 on host n1 waits in all_reduce of 3 ranks "
            "(its operation 7)");
}

TEST(Roll, ARankOutsideOfOperationsIsBlamedBeforeThoseThatWait) {
  Roll roll = of_three();
  roll.hear(0, state("all_reduce", true, 11), 50);
  roll.hear(1, state("exchange", false, 12), 50);
  roll.hear(2, state("all_reduce", true, 11), 50);
  EXPECT_TRUE(contains(roll.stuck(50, kTimeout, kPatience),
                       ": rank 1 on host n1 is in step 5, outside of operations, after exchange of 3 ranks (its "
                       "operation 7), for 12 s; rank 0 on host n1 waits in all_reduce"));
}

TEST(Roll, ARankInDoubtIsBlamedForAllOfItsTimeAndWithWhatItSeemsToDo) {
  Roll roll = of_three();
  RankState saving = state("all_reduce", false, 10);
  saving.quiet = 100, saving.doubt = RankState::Doubt::syncs;
  for (int rank = 0; rank < 3; ++rank) roll.hear(rank, state("barrier", true, 100), 50);
  roll.hear(1, saving, 50);
  EXPECT_TRUE(contains(roll.stuck(50, kTimeout, kPatience),
                       "after all_reduce of 3 ranks (its operation 7), waiting for a disk to sync, for 100 s; rank 0"));
  saving.idle = 9.5, saving.quiet = 95;
  roll.hear(1, saving, 50);
  EXPECT_FALSE(roll.stuck(50, kTimeout, kPatience)) << "the others wait for it";
}

TEST(Roll, ARankHaltedInAnOperationIsBlamedBeforeThoseThatWait) {
  Roll roll = of_three();
  RankState halted = state("all_reduce", true, 11, 9);
  halted.doubt = RankState::Doubt::halted;
  roll.hear(0, state("exchange", true, 11, 8), 50);
  roll.hear(1, halted, 50);
  roll.hear(2, state("exchange", true, 11, 8), 50);
  EXPECT_TRUE(contains(roll.stuck(50, kTimeout, kPatience),
                       ": rank 1 on host n1 is in step 5, in all_reduce of 3 ranks (its operation 9), halted by a"))
      << roll.stuck(50, kTimeout, kPatience).value_or("");
}

TEST(Roll, WhereAllWaitTheFurthestBehindIsBlamed) {
  Roll roll = of_three();
  roll.hear(0, state("all_reduce", true, 11, 9), 50);
  roll.hear(1, state("all_reduce", true, 11, 9), 50);
  roll.hear(2, state("exchange", true, 11, 8), 50);
  EXPECT_TRUE(contains(roll.stuck(50, kTimeout, kPatience), ": rank 2 on host n2 is in step 5, in exchange"));
}

TEST(Roll, ManyRanksMakeOneShortLine) {
  Roll roll(std::vector<std::string>(100, "n1"));
  for (int rank = 0; rank < 100; ++rank) roll.hear(rank, state(nullptr, false, 11, 0, 0), 50);
  const auto line = roll.stuck(50, kTimeout, kPatience);
  EXPECT_TRUE(contains(line, "rank 3 on host n1 is before its first operation, for 11 s and 96 more"));
  EXPECT_FALSE(contains(line, "rank 4 "));
}

TEST(Roll, ALostRankIsNamedAtOnceAndOneThatSaidFarewellIsNot) {
  Roll roll = of_three();
  roll.hear(0, state("all_reduce", true, 0), 50);
  roll.hear(1, state("all_reduce", false, 0), 50);
  roll.hear(2, state("exchange", true, 0), 50);
  roll.leave(1);
  roll.lose(1, 51);
  EXPECT_FALSE(roll.lost(51));
  roll.lose(2, 51);
  EXPECT_EQ(roll.lost(51).value_or(""),
            "rank 2 on host n2 is gone (killed, crashed or out of memory), last heard 1.0 s ago in step 5, in exchange "
            "of 3 ranks (its operation 7); rank 0 on host n1 waits in all_reduce of 3 ranks (its operation 7)");
}

TEST(Roll, RanksThatLeftAreNotWaitedFor) {
  Roll roll = of_three();
  for (int rank = 0; rank < 3; ++rank) roll.hear(rank, state("barrier", true, 0), 0);
  for (int rank = 0; rank < 3; ++rank) roll.leave(rank);
  EXPECT_FALSE(roll.stuck(1000, kTimeout, kPatience));
}

TEST(Activity, AWaitNamesItsOperationAndIsProgressAtBothEnds) {
  Activity activity;
  EXPECT_EQ(activity.now().operation, nullptr);
  {
    const Activity::Wait wait(activity, "broadcast", 4);
    const Activity::Now now = activity.now();
    EXPECT_STREQ(now.operation, "broadcast");
    EXPECT_EQ(now.group, 4);
    EXPECT_TRUE(now.waits);
    EXPECT_EQ(now.number, 1U);
    EXPECT_EQ(now.ticks, 1U);
  }
  activity.tick();
  EXPECT_FALSE(activity.now().waits);
  EXPECT_EQ(activity.now().ticks, 3U);
}

}  // namespace
}  // namespace plasmid
