#include "launcher/bootstrap/signals.hpp"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "runtime/ops/matmul.hpp"

namespace plasmid {
namespace {

// Matrix products, and the heap around them, under a rain of signals. Exits with 0 when all came out as without.
[[noreturn]] void compute_under_signals(int signals) {
  catch_stop_signals();
  constexpr Index kRows = 96, kIn = 256, kOut = 256;
  std::vector<float> x(kRows * kIn, 0.5f), weight(kOut * kIn, 0.25f), expected(kRows * kOut), y(kRows * kOut);
  Stream stream;
  const auto product = [&](std::vector<float>& out) {
    ops::linear_forward(view_of(std::span(x)).reshape({kRows, kIn}), view_of(std::span(weight)).reshape({kOut, kIn}),
                        ops::WeightLayout::out_in, {}, view_of(std::span(out)).reshape({kRows, kOut}), stream);
  };
  product(expected);
  std::atomic<bool> done = false;
  std::thread sender([&] {
    for (int i = 0; i < signals; ++i) {
      kill(getpid(), i % 2 ? SIGTERM : SIGUSR1);
      std::this_thread::yield();
    }
    done = true;
  });
  bool equal = true;
  std::vector<std::vector<float>> neighbours;
  for (Index round = 0; !done || round < 200; ++round) {
    y.assign(y.size(), 0);
    product(y);
    equal = equal && y == expected;
    neighbours.resize(static_cast<std::size_t>(round % 8));
    for (auto& neighbour : neighbours) neighbour.resize(neighbour.size() + 100);
  }
  sender.join();
  std::_Exit(!equal ? 1 : stop_signal() != Stop::requeue ? 2 : 0);
}

TEST(Signals, LeaveTheComputingThreadsAlone) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(compute_under_signals(2000), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace plasmid
