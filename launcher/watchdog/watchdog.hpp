#pragma once
#include <functional>
#include <memory>
#include <string>

#include "launcher/bootstrap/world.hpp"
#include "runtime/base/index.hpp"

namespace plasmid {

struct Ending {  // exit.json's content
  int exit_status = 0;
  std::string reason;
  bool retry = false;
};

// Ends a job of several ranks that one of them has left without a word, or in which none makes progress.
//
// A thread of each rank, which takes no signals and calls no MPI, holds a TCP connection to rank 0's. Over it goes, a
// few times a second, what the rank's main thread does (Activity) and for how long it has not made progress: begun
// or ended an operation, computed a row of attention tiles, read or written a byte, a file or a mapped page (Progress).
//  - A connection that ends without a farewell is a process that died: the job ends at once, whatever the launcher
//  does.
//  - When no rank has made progress for the time-out, the job is stuck. A rank that reads, writes or
//    computes attention, however slowly, keeps all alive; one that is stopped or cut off does not. Other computing
//    looks like a loop, and a sync that lasts like a disk that is gone: a rank with either keeps all alive for ten
//    times the time-out. Rank 0 judges, and the others judge rank 0, by its silence. Time for which the whole process
//    was stopped does not count.
// The rank that judges writes exit.json and one line on standard error, which name rank, host and operation, and tells
// the others. Then each process ends: by MPI_Abort, called by the main thread where it waits in an operation of
// Communicator, so that the launcher ends ranks which cannot end themselves; seconds later by _exit wherever it is.
//
// Not watched: MPI's own start and end, and a job of one rank. A rank that hangs beside others that go on is noticed
// when these come to wait for it.
class Watchdog {
 public:
  // Tells what came to pass; false: another rank told an earlier cause, so this one is not said. It may hang on a
  // broken disk: it runs on a thread of its own, and is given two seconds.
  using Record = std::function<bool(const Ending&)>;

  explicit Watchdog(World&);  // collective; not guarded itself. Error{io} where there are no sockets
  ~Watchdog();                // leaves
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  void set_timeout(double seconds);  // at least 1; 0: a job that is stuck stays so; 600 from the start on
  void set_record(Record);           // none: the line alone
  void begin_step(Index step);       // of training
  void went_on_from(Index step);     // of a checkpoint; 0: from the start
  void saved(Index step);            // a checkpoint that is good on all ranks: only now is the job worth another try

  // Says farewell, before the rank ends or aborts the job in its own name: the others do not miss it. Where `failure`
  // is Error{io}'s, it may be that an operation failed since another rank has died: the watchdog is given a second to
  // tell that, and if it does, this does not return.
  void leave(int failure = 0);

  const std::string& warning() const;  // a line where a rank is not watched, since it cannot reach rank 0; on rank 0

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;  // null: a job of one rank
};

}  // namespace plasmid
