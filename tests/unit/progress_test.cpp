#include "launcher/watchdog/progress.hpp"

#include <gtest/gtest.h>
#include <time.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <optional>
#include <semaphore>
#include <thread>

#include "runtime/io/file.hpp"
#include "runtime/io/sync.hpp"

namespace plasmid {
namespace {

// A thread that is watched from the test's, and is blocked but while it does what it is told.
class Watched {
 public:
  Watched() : thread_([this] { serve(); }) { wait(); }
  ~Watched() {
    go_.release();
    thread_.join();
  }
  void does(std::function<void()> task) {
    task_ = std::move(task);
    go_.release();
    wait();
  }
  RankState at(double now) { return progress_->at(now, 1); }
  Activity& activity() { return activity_; }

 private:
  void serve() {
    progress_.emplace(activity_);
    id_ = ::gettid();
    for (;;) {
      done_.release();
      go_.acquire();
      if (!task_) return;
      task_();
      task_ = nullptr;
    }
  }

  void wait() {
    done_.acquire();
    while (!blocked()) std::this_thread::yield();
  }

  bool blocked() const {
    std::ifstream file("/proc/self/task/" + std::to_string(id_) + "/stat");
    std::string text;
    std::getline(file, text);
    return text.find(") S ") != std::string::npos;
  }

  Activity activity_;
  std::optional<Progress> progress_;
  pid_t id_ = 0;
  std::function<void()> task_;
  std::binary_semaphore go_{0}, done_{0};
  std::thread thread_;
};

void compute() {  // for some clock ticks of this thread's own time
  timespec time{};
  do ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  while (time.tv_sec == 0 && time.tv_nsec < 100'000'000);
}

TEST(Progress, AThreadThatDoesNothingIsIdleForAllTheTime) {
  Watched thread;
  const double before = thread.at(10).idle;
  const RankState state = thread.at(30);
  EXPECT_DOUBLE_EQ(state.idle, before + 20);
  EXPECT_EQ(state.doubt, RankState::Doubt::none);
}

TEST(Progress, AThreadThatReadsGoesOn) {
  Watched thread;
  thread.at(10);
  thread.does([] {
    char byte = 0;
    std::ifstream("/proc/self/stat").read(&byte, 1);
  });
  EXPECT_EQ(thread.at(30).idle, 0);
  EXPECT_EQ(thread.at(35).idle, 5);
}

TEST(Progress, AThreadThatComputesOutsideOfOperationsIsIdleForATenth) {
  Watched thread;
  const double before = thread.at(10).idle;
  thread.does(compute);
  const RankState state = thread.at(30);
  EXPECT_DOUBLE_EQ(state.idle, before + 2);
  EXPECT_DOUBLE_EQ(state.quiet, before + 20);
  EXPECT_EQ(state.doubt, RankState::Doubt::computes);
}

TEST(Progress, AThreadThatPollsInAnOperationIsIdleForAllTheTime) {
  Watched thread;
  const Activity::Wait wait(thread.activity(), "barrier", 2);
  thread.at(10);
  thread.does(compute);
  const RankState state = thread.at(30);
  EXPECT_DOUBLE_EQ(state.idle, 20);
  EXPECT_EQ(state.doubt, RankState::Doubt::none);
}

TEST(Progress, ASyncUnderWayIsIdleForATenthAndItsEndIsProgress) {
  Watched thread;
  {
    const Syncing sync;
    const double before = thread.at(10).idle;
    const RankState state = thread.at(30);
    EXPECT_DOUBLE_EQ(state.idle, before + 2);
    EXPECT_EQ(state.doubt, RankState::Doubt::syncs);
  }
  EXPECT_EQ(thread.at(31).idle, 0);
}

TEST(Progress, FilesTellOfTheirSyncs) {
  const std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("plasmid-progress-" + std::to_string(::getpid()));
  const std::uint64_t before = syncs_of_process().ended;
  write_file_atomically(path, "bytes");
  std::filesystem::remove(path);
  EXPECT_EQ(syncs_of_process().ended, before + 2) << "the file and its folder";
  EXPECT_EQ(syncs_of_process().under_way, 0);
}

}  // namespace
}  // namespace plasmid
