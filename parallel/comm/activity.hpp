#pragma once
#include <atomic>
#include <cstdint>

namespace plasmid {

// What a rank does, written by the thread that communicates and read by any other: a thread that waits inside MPI looks
// at no clock, so somebody else has to. Each member is exact; read together they may be one operation apart.
class Activity {
 public:
  struct Now {
    const char* operation;  // waited in, or the last one that was; null before the first
    int group;              // its ranks
    bool waits;
    std::uint64_t number;  // of waits so far
    std::uint64_t ticks;   // grows with every sign of progress
  };

  // By the communicating thread, around each wait. `operation` is a literal.
  class Wait {
   public:
    Wait(Activity& activity, const char* operation, int group) noexcept : activity_(activity) {
      activity.operation_ = operation;
      activity.group_ = group;
      ++activity.number_;
      ++activity.ticks_;
      activity.waits_ = true;
    }
    ~Wait() {
      activity_.waits_ = false;
      ++activity_.ticks_;
    }
    Wait(const Wait&) = delete;
    Wait& operator=(const Wait&) = delete;

   private:
    Activity& activity_;
  };
  void tick() noexcept { ticks_.fetch_add(1, std::memory_order_relaxed); }

  Now now() const noexcept { return {operation_, group_, waits_, number_, ticks_}; }

  // By any thread: a wait that sees this ends the processes of all ranks, as only the communicating thread may.
  void ask_to_end(int exit_status) noexcept { end_ = exit_status; }
  int end_asked() const noexcept { return end_.load(std::memory_order_relaxed); }  // 0: nobody

 private:
  std::atomic<const char*> operation_{nullptr};
  std::atomic<int> group_{0}, end_{0};
  std::atomic<bool> waits_{false};
  std::atomic<std::uint64_t> number_{0}, ticks_{0};
};

}  // namespace plasmid
