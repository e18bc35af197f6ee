#pragma once

namespace plasmid {

// Why a run ends before its last step; larger wins when ranks saw different reasons.
enum class Stop : int {
  none = 0,
  time_limit = 1,  // train.max_seconds
  requeue = 2,     // SIGTERM or SIGUSR1: the scheduler takes the machine back
  interrupt = 3,   // Ctrl-C
};

// Turns SIGTERM, SIGUSR1 and SIGINT into a flag that the trainer reads between steps. A second SIGINT acts as it does
// by default. Blocks the three on the calling thread and so on those it makes later; a thread of its own takes them:
// no handler may run on a thread that computes. A file that passes its size limit becomes a failed write, as on a full
// disk, and a reader of standard output that has gone ends nothing.
void catch_stop_signals();
Stop stop_signal();

}  // namespace plasmid
