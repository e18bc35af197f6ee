#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "launcher/bootstrap/world.hpp"
#include "runtime/base/index.hpp"

namespace plasmid {

struct EvaluateOptions {
  std::filesystem::path run;           // a run directory
  Index step = 0;                      // of the checkpoint; 0: the newest good one
  std::vector<std::string> overrides;  // "a.b=c", of the run's job, applied in order
  std::vector<std::string> files;      // evaluated instead of the job's held-out data
  bool markov = true;                  // count Markov models on the run's training data, and tell theirs beside it
  bool json = false;
};

// `plasmid eval` on one rank: the loss of a checkpoint's weights over held-out data, as a table or one JSON object on
// standard output. Any number of ranks: where the job's mesh is for another, and no override names one, all ranks share
// each window (cp). Writes nothing into the run directory. Returns the exit status, equal on all ranks unless one fails
// alone, with one line on standard error:
//   66 no run directory, no checkpoint, no data; 65 a damaged checkpoint, or nothing to predict; 71 too little memory
//   78 nothing is held out, or data.files is not what the run was trained on
int evaluate_run(World&, const EvaluateOptions&);

}  // namespace plasmid
