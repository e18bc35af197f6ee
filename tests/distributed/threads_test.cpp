// How ranks as threads fail: nobody is left waiting, and the message says who and where.
#include "parallel/comm/threads.hpp"

#include <gtest/gtest.h>

#include <stdexcept>

#include "parallel/comm/self.hpp"
#include "tests/support/expect_error.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/watchdog.hpp"

namespace plasmid {
namespace {

using namespace std::chrono_literals;
using test::run_ranks;

template <class T>
View view(std::vector<T>& values) {
  return view_of(std::span<T>(values));
}

// Aborts on rank 1 once all others wait, and counts those whose wait ended in an error.
void expect_peers_released(const std::function<void(Communicator&)>& wait_for_rank_1, const std::string& operation) {
  std::atomic<int> released = 0;
  run_ranks(4, [&](Communicator& world) {
    if (world.rank() == 1) return world.abort();
    expect_error(ErrorCode::io, {operation, "rank " + std::to_string(world.rank()), "rank 1 gave up"},
                 [&] { wait_for_rank_1(world); });
    ++released;
  });
  EXPECT_EQ(released, 3) << operation;
}

TEST(Threads, AbortReleasesEveryKindOfWait) {
  expect_peers_released([](Communicator& world) { world.barrier(); }, "barrier");
  expect_peers_released([](Communicator& world) { world.agree_max(3); }, "agree_max");
  expect_peers_released([](Communicator& world) { (void)world.split(0, 0); }, "split");
  expect_peers_released(
      [](Communicator& world) {
        Stream stream;
        std::vector<float> values(8);
        world.all_reduce(view(values), Reduce::sum, stream).wait(stream);
      },
      "all_reduce");
  expect_peers_released(
      [](Communicator& world) {
        Stream stream;
        std::vector<float> values(8);
        const Transfer transfer{{}, -1, view(values), 1, 0};
        world.exchange({&transfer, 1}, stream).wait(stream);
      },
      "exchange");
}

TEST(Threads, AWaitThatLastsTooLongNamesTheOperationAndTheMissingRanks) {
  ThreadWorld world(3, 50ms);
  run_ranks(world, 3, [](Communicator& rank) {
    Stream stream;
    std::vector<double> values(2);
    if (rank.rank() != 0) return;
    expect_error(ErrorCode::io, {"all_reduce on rank 0", "rank 1, 2"},
                 [&] { rank.all_reduce(view(values), Reduce::sum, stream).wait(stream); });
  });
  ThreadWorld another(2, 50ms);
  run_ranks(another, 2, [](Communicator& rank) {
    Stream stream;
    std::vector<double> values(2);
    const Transfer transfer{view(values), 1, {}, -1, 2};
    if (rank.rank() != 0) return;
    expect_error(ErrorCode::io, {"exchange (send) on rank 0", "rank 1"}, [&] {
      rank.exchange({&transfer, 1}, stream).wait(stream);
    });
  });
}

TEST(Threads, TheFirstErrorIsTheOneThatIsReported) {
  try {
    run_ranks(4, [](Communicator& world) {
      if (world.rank() == 2) throw std::runtime_error("the true reason");
      world.barrier();
    });
    FAIL() << "nothing was thrown";
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "the true reason");
  }
}

// Its buffers are gone when the exception has passed; whoever would have filled them must not.
TEST(Threads, AnUnfinishedOperationThatAnExceptionDropsStopsTheJob) {
  for (const bool collective : {false, true}) {
    int stopped = 0;
    EXPECT_THROW(run_ranks(2,
                           [&](Communicator& world) {
                             Stream stream;
                             std::vector<float> values(4);
                             if (world.rank() == 0) {
                               const Transfer receive{{}, -1, view(values), 1, 0};
                               Pending pending = collective ? world.all_reduce(view(values), Reduce::sum, stream)
                                                            : world.exchange({&receive, 1}, stream);
                               throw std::runtime_error("rank 0 fails with a transfer in flight");
                             }
                             const Transfer never{{}, -1, view(values), 0, 7};
                             EXPECT_THROW(world.exchange({&never, 1}, stream).wait(stream), Error);
                             ++stopped;
                           }),
                 std::runtime_error);
    EXPECT_EQ(stopped, 1);
  }
}

TEST(Threads, GroupsOfASplitDieWithTheWorldTheyCameFrom) {
  std::atomic<int> released = 0;
  run_ranks(4, [&](Communicator& world) {
    const auto half = world.split(world.rank() / 2, 0);
    if (world.rank() == 3) return half->abort();
    expect_error(ErrorCode::io, {"rank 3 gave up"}, [&] {
      while (true) half->barrier();
    });
    ++released;
  });
  EXPECT_EQ(released, 3);
}

TEST(ThreadsDeathTest, CollectivesThatDoNotMatchAreNamed) {
  EXPECT_DEATH(run_ranks(2,
                         [](Communicator& world) {
                           Stream stream;
                           std::vector<float> values(world.rank() == 0 ? 3 : 4);
                           world.all_reduce(view(values), Reduce::sum, stream).wait(stream);
                         }),
               "rank 0 calls all_reduce of 3 -> 3 f32, rank 1 all_reduce of 4 -> 4 f32");
  EXPECT_DEATH(run_ranks(2,
                         [](Communicator& world) {
                           Stream stream;
                           std::vector<float> values(4);
                           const Index count = world.rank() == 0 ? 3 : 4;
                           const View part = view(values).slice(0, 0, count);
                           const int peer = 1 - world.rank();
                           const Transfer swap{part, peer, view(values), peer, 0};
                           world.exchange({&swap, 1}, stream).wait(stream);
                         }),
               "sends 3 f32.* awaits 4 f32");
}

TEST(ThreadsDeathTest, ATransferNobodyWaitsForIsABrokenInvariant) {
  EXPECT_DEATH(run_ranks(1,
                         [](Communicator& world) {
                           Stream stream;
                           std::vector<float> values(1);
                           Pending forgotten = world.all_reduce(view(values), Reduce::sum, stream);
                         }),
               "nobody waited for");
}

TEST(WatchdogDeathTest, TurnsAHangIntoTheNameOfTheTest) {
  EXPECT_DEATH(
      {
        test::Watchdog watchdog(20ms, 3);
        watchdog.OnTestStart(*testing::UnitTest::GetInstance()->current_test_info());
        ThreadWorld(2, 1h).communicator(0)->barrier();
      },
      "rank 3 hangs in WatchdogDeathTest.TurnsAHangIntoTheNameOfTheTest");
}

TEST(SelfCommunicator, NamesATransferThatNeverMeetsItsOtherSide) {
  const auto self = make_self_communicator();
  Stream stream;
  std::vector<float> sent = {1}, got = {0};
  const Transfer send{view(sent), 0, {}, -1, 1}, receive{{}, -1, view(got), 0, 1};
  Pending first = self->exchange({&send, 1}, stream);
  expect_error(ErrorCode::io, {"exchange", "never posted"}, [&] { first.wait(stream); });
  self->exchange({&receive, 1}, stream).wait(stream);
  EXPECT_EQ(got, sent);
}

}  // namespace
}  // namespace plasmid
