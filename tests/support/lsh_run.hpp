// LSH attention of a whole line's problem on the host's kernels, on one rank or sharded.
#pragma once
#include "attention/lsh/lsh_attention.hpp"
#include "parallel/cp/partition.hpp"
#include "tests/support/lsh_case.hpp"

namespace plasmid::test {

struct LshRun {
  LshResult<float> result;  // of the whole line, on every rank
  LshTraffic traffic;
  double imbalance = 1;
  Index scratch_peak = 0, scratch_bound = 0;  // the latter for one document in shards of this size
};

// This rank takes its tokens' rows, laid out inside a fused projection; the parts are put together again. `shards`:
// one list of ranges a rank.
LshRun run_lsh(Communicator& ring, const LshCase& problem, const Shards& shards);
LshRun run_lsh(const LshCase& problem);  // alone

}  // namespace plasmid::test
