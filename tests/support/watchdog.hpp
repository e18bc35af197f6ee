#pragma once
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace plasmid::test {

// Turns a hang into a message: a test that lasts longer than `patience` is named on stderr and the process aborts.
class Watchdog final : public testing::EmptyTestEventListener {
 public:
  Watchdog(std::chrono::milliseconds patience, int rank);
  ~Watchdog() override;
  void OnTestStart(const testing::TestInfo&) override;
  void OnTestEnd(const testing::TestInfo&) override;

 private:
  void watch();

  std::chrono::milliseconds patience_;
  int rank_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string test_;  // empty between tests
  unsigned long started_ = 0;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace plasmid::test
