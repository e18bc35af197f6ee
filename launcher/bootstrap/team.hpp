#pragma once
#include "parallel/comm/communicator.hpp"
#include "runtime/device/simd.hpp"

namespace plasmid {

// What the ranks of a job share, agreed before the first kernel runs.
struct Team {
  int hosts = 1;
  int ranks_here = 1;  // on this rank's host, itself included
  int threads = 1;     // of this rank
  Simd simd = Simd::baseline;
};

// Collective. Limits every rank to the widest instruction set that all have, and sets the OpenMP team: OMP_NUM_THREADS
// where it is set, else this rank's processors divided among the ranks of its host that may run on them. Throws
// Error{config} for an OMP_NUM_THREADS that is no positive number.
Team form_team(Communicator& ranks);

Index machine_bytes();  // main memory of this host, or of the control group where that is less

}  // namespace plasmid
