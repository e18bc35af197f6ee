#pragma once
#include <memory>
#include <string>

#include "parallel/comm/activity.hpp"
#include "parallel/comm/communicator.hpp"

namespace plasmid {

// All ranks of the job: MPI's where it is built in (one rank when the program was started without a launcher), else
// this process alone. One per process.
class World {
 public:
  World(int* argc, char*** argv);  // errors as MpiWorld
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  Communicator& ranks();
  Activity& activity();                               // of this rank
  std::string library();                              // that moves the bytes, in a line: "Open MPI v4.1.4, ..."; "none"
  [[noreturn]] void abort(int exit_status) noexcept;  // ends the processes of all ranks

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The rank that the launcher's environment tells before MPI has started, so that one rank alone speaks of a wrong
// command line; 0 without a launcher.
int launched_rank();

}  // namespace plasmid
