#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "parallel/comm/activity.hpp"
#include "parallel/comm/communicator.hpp"

namespace plasmid {

// MPI, from initialisation to the end; one per process, made by the main thread, which alone talks to MPI
// (MPI_THREAD_FUNNELED). Throws Error{config} if the MPI library does not grant that, or if several tasks were started
// that MPI does not see as one job. MPI's failures become Error{io} with the operation, the rank and MPI's own text.
class MpiWorld {
 public:
  MpiWorld(int* argc, char*** argv);
  ~MpiWorld();  // ends MPI together with all ranks; while an exception unwinds, aborts the job instead
  MpiWorld(const MpiWorld&) = delete;
  MpiWorld& operator=(const MpiWorld&) = delete;

  Communicator& communicator() { return *communicator_; }
  Activity& activity();
  std::string library() const;                      // name and version, the first line that MPI tells of itself
  [[noreturn]] void abort(int exit_code) noexcept;  // ends every rank's process

  // MPI counts are int. Longer views go in parts or as derived types; a lower limit lets short views take that path.
  void set_count_limit(Index);

  struct State;

 private:
  std::shared_ptr<State> state_;
  std::unique_ptr<Communicator> communicator_;
};

using Environment = std::function<const char*(const char* name)>;  // null: not set

// Throws Error{config} with the fix when a launcher (mpirun, or a step of Slurm) started several tasks and MPI sees one
// rank: each task would train alone and write over the others' files. One task in a larger allocation may run: without
// a launcher, by `mpirun -n 1` or `srun -n 1`.
void check_launch(int mpi_ranks, const Environment&);

// What MpiWorld puts into the environment before MPI starts, for a ring's sake and where the user (mpirun --mca, the
// environment, ~/.openmpi/mca-params.conf) says nothing. Open MPI over TCP: long messages go in fragments rather than
// at once ("put"). Else the go-ahead for what a rank is to receive waits behind all of what it is sending, and the two
// directions between two hosts take turns at half the rate. Other MPI libraries and networks do not read it.
struct Setting {
  std::string variable, value;
};
std::vector<Setting> transport_settings(const Environment&);

}  // namespace plasmid
