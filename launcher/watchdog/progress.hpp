#pragma once
#include <chrono>
#include <cstdint>
#include <string>

#include "launcher/watchdog/roll.hpp"
#include "parallel/comm/activity.hpp"

namespace plasmid {

// Seconds for which this process has been running: a gap in which it was stopped counts as little.
class RunningClock {
 public:
  double advance(double longest);  // the time since the last call, at most `longest` of it; returns the sum

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
  double seconds_ = 0;
};

// Tells whether one thread goes on, by what it says (Activity) and by the bytes that it reads and writes: unpacking a
// file and saving a checkpoint take long and communicate nothing.
class Progress {
 public:
  explicit Progress(const Activity&);  // of the calling thread
  RankState at(double now, Index step);

 private:
  std::uint64_t bytes_moved() const;

  const Activity& activity_;
  std::string counters_;  // the thread's file of I/O counters
  std::uint64_t ticks_ = 0, bytes_ = 0;
  double last_ = 0;
};

}  // namespace plasmid
