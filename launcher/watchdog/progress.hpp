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

// Tells whether one thread goes on. Signs of it are what it says (Activity), the bytes that it reads and writes and, of
// what does neither, a page of a mapped file that came from disk and a sync that ended. Outside of operations, the use
// of a processor and a sync under way (runtime/io/sync.hpp) may be work that shows no other sign, or a loop and a disk
// that never come to an end: such time counts a tenth as idle.
class Progress {
 public:
  static constexpr double kDoubt = 0.1;

  explicit Progress(const Activity&);  // of the calling thread
  RankState at(double now, Index step);

 private:
  struct Counters {
    std::uint64_t signs = 0;      // ticks, bytes, pages and syncs, summed: each only grows
    std::uint64_t processor = 0;  // in clock ticks
    bool halted = false;          // by a debugger or a signal
  };
  Counters count(const Activity::Now&) const;

  const Activity& activity_;
  std::string folder_;  // of the thread's counters
  Counters last_;
  double last_now_ = 0, idle_ = 0, quiet_ = 0;
};

}  // namespace plasmid
