#pragma once
#include <functional>
#include <string>

#include "launcher/run/report.hpp"
#include "launcher/trainer/evaluation.hpp"
#include "launcher/trainer/trainer.hpp"

namespace plasmid {

struct Outcome {  // equal on all ranks; exit.json's content
  int exit_status = 0;
  std::string reason;
  bool retry = false;
  Index last_step = 0;  // whose update is in the weights
  bool sound = true;    // false: these weights led to numbers that are not finite, and make no checkpoint
};

// What the loop works with on one rank; `report` is null on all ranks but one.
struct TrainLoop {
  const v1::Job& job;
  Trainer& trainer;
  Communicator& ranks;
  Report* report;
  Index first_step;                      // 1, or the one after a checkpoint's
  std::function<void(Index step)> save;  // collective; called every checkpoint.every steps but the last
  Evaluation* evaluation = nullptr;      // null: nothing is held out
  std::function<void(Index step)> begins = [](Index) {};  // called as each step begins
  bool evaluates_first = false;  // the checkpoint's own evaluation was due, and stopped before its end
};

// Whether the held-out data is evaluated after this step: every train.evaluate_every steps, and after the last.
bool evaluation_due(const v1::Train&, Index step);

// Collective: up to train.steps, or until all ranks agree to stop after a step: a signal, train.max_seconds, numbers
// that are not finite.
Outcome run_steps(const TrainLoop&);

}  // namespace plasmid
