#include "launcher/watchdog/progress.hpp"

#include <unistd.h>

#include <algorithm>
#include <fstream>

namespace plasmid {

double RunningClock::advance(double longest) {
  const auto now = std::chrono::steady_clock::now();
  seconds_ += std::min(std::chrono::duration<double>(now - last_).count(), longest);
  last_ = now;
  return seconds_;
}

Progress::Progress(const Activity& activity)
    : activity_(activity), counters_("/proc/self/task/" + std::to_string(::gettid()) + "/io") {}

RankState Progress::at(double now, Index step) {
  const Activity::Now activity = activity_.now();
  const std::uint64_t moved = bytes_moved();
  if (activity.ticks != ticks_ || moved != bytes_) last_ = now;
  ticks_ = activity.ticks, bytes_ = moved;
  return state_of(activity, now - last_, step);
}

// Of system calls; a kernel that does not count them tells nothing.
std::uint64_t Progress::bytes_moved() const {
  std::ifstream file(counters_);
  std::uint64_t sum = 0, value = 0;
  for (std::string name; file >> name >> value;)
    if (name == "rchar:" || name == "wchar:") sum += value;
  return sum;
}

}  // namespace plasmid
