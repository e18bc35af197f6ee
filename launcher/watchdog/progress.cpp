#include "launcher/watchdog/progress.hpp"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "runtime/io/sync.hpp"

namespace plasmid {
namespace {

// Of system calls; a kernel that does not count them tells nothing.
std::uint64_t bytes_moved(const std::string& file_of_thread) {
  std::ifstream file(file_of_thread);
  std::uint64_t sum = 0, value = 0;
  for (std::string name; file >> name >> value;)
    if (name == "rchar:" || name == "wchar:") sum += value;
  return sum;
}

struct ThreadStatus {
  char state = '?';
  std::uint64_t pages_from_disk = 0, processor = 0;
};

// proc(5): after the name, which may hold anything but ends in the last parenthesis, come the state, eight fields, the
// major faults, those of children, and the time in user mode and in the kernel.
ThreadStatus status_of(const std::string& file_of_thread) {
  std::ifstream file(file_of_thread);
  std::string text;
  std::getline(file, text);
  const std::size_t name_ends = text.rfind(')');
  if (name_ends == std::string::npos) return {};
  std::istringstream fields(text.substr(name_ends + 1));
  ThreadStatus status;
  fields >> status.state;
  std::string skipped;
  for (int i = 0; i < 8; ++i) fields >> skipped;
  std::uint64_t user = 0, system = 0;
  fields >> status.pages_from_disk >> skipped >> user >> system;
  status.processor = user + system;
  return status;
}

}  // namespace

double RunningClock::advance(double longest) {
  const auto now = std::chrono::steady_clock::now();
  seconds_ += std::min(std::chrono::duration<double>(now - last_).count(), longest);
  last_ = now;
  return seconds_;
}

Progress::Progress(const Activity& activity)
    : activity_(activity), folder_("/proc/self/task/" + std::to_string(::gettid())) {}

Progress::Counters Progress::count(const Activity::Now& activity) const {
  const ThreadStatus status = status_of(folder_ + "/stat");
  return {.signs = activity.ticks + bytes_moved(folder_ + "/io") + status.pages_from_disk + syncs_of_process().ended,
          .processor = status.processor,
          .halted = status.state == 'T' || status.state == 't'};
}

RankState Progress::at(double now, Index step) {
  const Activity::Now activity = activity_.now();
  const Counters counted = count(activity);
  const bool computes = counted.processor != last_.processor;
  const bool syncs = syncs_of_process().under_way > 0 && !counted.halted;
  const bool doubtful = !activity.waits && (computes || syncs);
  const double passed = now - last_now_;
  idle_ += (doubtful ? kDoubt : 1) * passed, quiet_ += passed;
  if (counted.signs != last_.signs) idle_ = quiet_ = 0;
  last_ = counted, last_now_ = now;
  RankState state = state_of(activity, idle_, step);
  state.quiet = quiet_;
  if (counted.halted)
    state.doubt = RankState::Doubt::halted;
  else if (doubtful)
    state.doubt = syncs ? RankState::Doubt::syncs : RankState::Doubt::computes;
  return state;
}

}  // namespace plasmid
