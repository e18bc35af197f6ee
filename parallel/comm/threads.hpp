#pragma once
#include <chrono>
#include <memory>

#include "parallel/comm/communicator.hpp"

namespace plasmid {

// A job whose ranks are threads of one process, over shared memory. A wait that lasts longer than `patience` throws
// Error{io} naming the operation, the rank and the ranks that did not come; abort() by one rank makes every present
// and later wait of the others throw. A wait that nobody finished (its Pending died in an exception) aborts the job,
// since its buffers are gone.
class ThreadWorld {
 public:
  explicit ThreadWorld(int ranks, std::chrono::milliseconds patience = std::chrono::minutes(1));

  // The world communicator of one rank; to be used by one thread. Asked for once per rank. May outlive the world.
  std::unique_ptr<Communicator> communicator(int rank);

  // A clock per rank that only these calls and waits move, so that what overlaps with what is counted, not timed: an
  // exchange arrives `exchange_delay` after the later of its two sides was posted, a collective with its last member,
  // and a wait moves the clock to the arrival.
  void set_exchange_delay(double delay);
  void advance_clock(int rank, double work);  // by that rank's thread
  double clock(int rank) const;

  int aborted_by() const;  // the rank that was the first to give up; -1: none

  struct State;

 private:
  std::shared_ptr<State> state_;
};

}  // namespace plasmid
