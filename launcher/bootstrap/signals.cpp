#include "launcher/bootstrap/signals.hpp"

#include <signal.h>

#include <algorithm>

namespace plasmid {
namespace {

volatile sig_atomic_t caught = 0;  // the largest Stop so far: all that a handler may write

extern "C" void note_signal(int signal) {
  const int stop = static_cast<int>(signal == SIGINT ? Stop::interrupt : Stop::requeue);
  if (stop > caught) caught = stop;
}

}  // namespace

void catch_stop_signals() {
  struct sigaction action {};
  action.sa_handler = note_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (const int signal : {SIGTERM, SIGUSR1}) sigaction(signal, &action, nullptr);  // schedulers may send them twice
  action.sa_flags |= static_cast<int>(SA_RESETHAND);  // a second Ctrl-C ends the process at once
  sigaction(SIGINT, &action, nullptr);
  for (const int signal : {SIGXFSZ, SIGPIPE}) ::signal(signal, SIG_IGN);
}

Stop stop_signal() { return static_cast<Stop>(caught); }

}  // namespace plasmid
