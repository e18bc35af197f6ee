#include "launcher/bootstrap/signals.hpp"

#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <mutex>
#include <thread>

namespace plasmid {
namespace {

constexpr int kStopSignals[] = {SIGTERM, SIGUSR1, SIGINT};

std::atomic<int> caught{0};  // the largest Stop so far: all that a handler may write
static_assert(std::atomic<int>::is_always_lock_free);

extern "C" void note_signal(int signal) {
  const int stop = static_cast<int>(signal == SIGINT ? Stop::interrupt : Stop::requeue);
  for (int before = caught; before < stop && !caught.compare_exchange_weak(before, stop);) {
  }
}

sigset_t stop_set() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : kStopSignals) sigaddset(&set, signal);
  return set;
}

void install_handlers() {
  struct sigaction action {};
  action.sa_handler = note_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (const int signal : {SIGTERM, SIGUSR1}) sigaction(signal, &action, nullptr);  // schedulers may send them twice
  action.sa_flags |= static_cast<int>(SA_RESETHAND);  // a second Ctrl-C ends the process at once
  sigaction(SIGINT, &action, nullptr);
  for (const int signal : {SIGXFSZ, SIGPIPE}) ::signal(signal, SIG_IGN);
}

}  // namespace

// oneDNN's generated matrix products use the stack pointer as a plain register that points into the heap (its issue
// 4845; mended in 3.12): a handler entered there writes its frame over live data. So threads that compute block these
// signals, and one that only sleeps is left to take them.
void catch_stop_signals() {
  install_handlers();
  const sigset_t set = stop_set();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  static std::once_flag once;
  std::call_once(once, [] {
    std::thread([] {
      sigset_t none;
      sigemptyset(&none);
      for (;;) sigsuspend(&none);
    }).detach();
  });
}

Stop stop_signal() { return static_cast<Stop>(caught.load()); }

}  // namespace plasmid
