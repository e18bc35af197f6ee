#include "tests/support/watchdog.hpp"

#include <cstdio>
#include <cstdlib>

namespace plasmid::test {

Watchdog::Watchdog(std::chrono::milliseconds patience, int rank)
    : patience_(patience), rank_(rank), thread_([this] { watch(); }) {}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void Watchdog::OnTestStart(const testing::TestInfo& info) {
  const std::lock_guard lock(mutex_);
  test_ = std::string(info.test_suite_name()) + "." + info.name();
  ++started_;
  changed_.notify_one();
}

void Watchdog::OnTestEnd(const testing::TestInfo&) {
  const std::lock_guard lock(mutex_);
  test_.clear();
  changed_.notify_one();
}

void Watchdog::watch() {
  std::unique_lock lock(mutex_);
  while (!ending_) {
    changed_.wait(lock, [this] { return ending_ || !test_.empty(); });
    const unsigned long watched = started_;
    const auto over = [&] { return ending_ || test_.empty() || started_ != watched; };
    if (changed_.wait_for(lock, patience_, over)) continue;
    std::fprintf(stderr, "\nwatchdog: rank %d hangs in %s (over %lld ms)\n", rank_, test_.c_str(),
                 static_cast<long long>(patience_.count()));
    std::fflush(stderr);
    std::abort();
  }
}

}  // namespace plasmid::test
