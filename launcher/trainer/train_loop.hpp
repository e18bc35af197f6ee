#pragma once
#include <string>

#include "launcher/run/report.hpp"
#include "launcher/trainer/trainer.hpp"

namespace plasmid {

struct Outcome {  // equal on all ranks; exit.json's content
  int exit_status = 0;
  std::string reason;
  bool retry = false;
  Index last_step = 0;  // whose update is in the weights
};

// Collective: steps 1 to train.steps, or until all ranks agree to stop after one: a signal, train.max_seconds, numbers
// that are not finite. `report` is null on all ranks but one.
Outcome run_steps(const v1::Job&, Trainer&, Communicator& ranks, Report* report);

}  // namespace plasmid
