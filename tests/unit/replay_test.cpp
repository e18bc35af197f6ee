// The kernel that waits: for how long is counted in polls' time, never asserted from above.
#include "launcher/bench/replay.hpp"

#include <gtest/gtest.h>

#include <chrono>

#include "tests/support/expect_error.hpp"

namespace plasmid::bench {
namespace {

TEST(Replay, WaitsForItsPairsAndPolls) {
  const auto kernel = make_replay_kernel({1e-4, 3e-4}, make_host_kernel());
  MaskPlan mask;
  mask.queries = mask.keys = 4;
  mask.rows = {{0, 1}, {0, 2}, {0, 3}, {0, 4}};
  std::vector<float> values(4 * 2 * 8, 3.0f), lse(4 * 2, 5.0f);
  const View q(reinterpret_cast<std::byte*>(values.data()), {{4, 2, 8}, DType::f32});
  const View rows(reinterpret_cast<std::byte*>(lse.data()), {{4, 2}, DType::f32});
  Ledger ledger;
  Arena scratch(Arena::Kind::pool, ledger);
  int polls = 0;
  const Attend call{q, q, q, mask, 1, [&] { ++polls; }, nullptr};
  const auto start = std::chrono::steady_clock::now();
  kernel->forward(call, q, rows, scratch);
  const auto middle = std::chrono::steady_clock::now();
  const int forward_polls = polls;
  kernel->backward(call, rows, rows, q, q, q, q, scratch);
  const auto end = std::chrono::steady_clock::now();
  EXPECT_GE(std::chrono::duration<double>(middle - start).count(), 10 * 2 * 1e-4);
  EXPECT_GE(std::chrono::duration<double>(end - middle).count(), 10 * 2 * 3e-4);
  EXPECT_GE(forward_polls, 1);
  EXPECT_GE(polls, forward_polls + 1);
  EXPECT_EQ(values, std::vector<float>(values.size(), 3.0f));
  EXPECT_EQ(kernel->scratch_bytes(96, 96, 2, 2, 8), make_host_kernel()->scratch_bytes(96, 96, 2, 2, 8));
}

TEST(Replay, TimesAreTwoNumbers) {
  const ReplayTimes times = parse_replay("1.5e-9,4e-9");
  EXPECT_DOUBLE_EQ(times.forward, 1.5e-9);
  EXPECT_DOUBLE_EQ(times.backward, 4e-9);
  for (const char* text : {"", "1", "1,", ",1", "1,2,3", "-1,1", "1,nan", "1;2", "1, 2"})
    expect_error(ErrorCode::usage, {"--replay", std::string("'") + text + "'"}, [&] { parse_replay(text); });
}

}  // namespace
}  // namespace plasmid::bench
