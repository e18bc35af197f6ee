#include "launcher/trainer/train_loop.hpp"

#include <signal.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <sstream>

#include "launcher/bootstrap/signals.hpp"
#include "runtime/base/error.hpp"

namespace plasmid {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

struct Shared {  // the largest of all ranks
  Stop stop = Stop::none;
  Index peak_bytes = 0, resident_bytes = 0;
};

Shared share(Communicator& ranks, Stop stop, Index peak) {
  std::array<std::int64_t, 3> values = {static_cast<std::int64_t>(stop), peak, resident_bytes()};
  Stream stream;
  ranks.all_reduce(view_of(std::span<std::int64_t>(values)), Reduce::max, stream).wait(stream);
  return {static_cast<Stop>(values[0]), values[1], values[2]};
}

Outcome stopped(Stop stop, Index step, Index steps) {
  const std::string at = " after step " + std::to_string(step) + " of " + std::to_string(steps);
  switch (stop) {
    case Stop::time_limit:
      return {static_cast<int>(ErrorCode::requeue), "train.max_seconds passed" + at, true, step};
    case Stop::requeue:
      return {static_cast<int>(ErrorCode::requeue), "asked to stop by a signal" + at, true, step};
    case Stop::interrupt:
      return {128 + SIGINT, "interrupted" + at, false, step};
    default:
      return {0, "finished" + at, false, step};
  }
}

Outcome not_finite(const StepResult& result, Index step) {
  std::ostringstream text;
  text << "step " << step << ": loss " << result.loss << ", gradient norm " << result.grad_norm
       << ": not finite, at learning rate " << result.learning_rate << "; the weights of step " << step - 1
       << " are not saved";
  return {static_cast<int>(ErrorCode::software), text.str(), false, step - 1, false};
}

// False: a signal came before its end.
bool evaluate(const TrainLoop& loop, Index step) {
  const auto start = Clock::now();
  const auto sums = loop.evaluation->run(loop.trainer.forward_parts(), [] { return stop_signal() != Stop::none; });
  if (!sums || !loop.report) return sums.has_value();
  const v1::Job& job = loop.job;
  const EvaluationRecord record = loop.evaluation->record(
      *sums, step, step * job.train().batch() * job.data().sequence_length(), seconds_between(start, Clock::now()));
  loop.report->evaluation(record, "step " + std::to_string(step) + "/" + std::to_string(job.train().steps()) + "  " +
                                      describe(record, job.data()));
  return true;
}

}  // namespace

bool evaluation_due(const v1::Train& train, Index step) {
  return step == train.steps() || (train.evaluate_every() > 0 && step % train.evaluate_every() == 0);
}

Outcome run_steps(const TrainLoop& loop) {
  const v1::Job& job = loop.job;
  const Index steps = job.train().steps(), tokens_a_step = job.train().batch() * job.data().sequence_length(),
              every = job.checkpoint().every();
  const double limit = job.train().max_seconds();
  const auto start = Clock::now();
  if (loop.evaluates_first && !evaluate(loop, loop.first_step - 1))
    return stopped(share(loop.ranks, stop_signal(), 0).stop, loop.first_step - 1, steps);
  auto last_end = Clock::now();
  for (Index step = loop.first_step; step <= steps; ++step) {
    loop.begins(step);
    const StepResult result = loop.trainer.step(step);
    if (!result.finite) return not_finite(result, step);
    const bool late = limit > 0 && seconds_between(start, Clock::now()) >= limit;
    const Shared shared = share(loop.ranks, std::max(stop_signal(), late ? Stop::time_limit : Stop::none),
                                loop.trainer.ledger().peak_bytes());
    const auto end = Clock::now();
    const double seconds = seconds_between(last_end, end);
    last_end = end;
    if (loop.report)
      loop.report->step({.step = step,
                         .tokens = step * tokens_a_step,
                         .loss = result.loss,
                         .grad_norm = result.grad_norm,
                         .learning_rate = result.learning_rate,
                         .step_seconds = seconds,
                         .tokens_per_second = static_cast<double>(tokens_a_step) / seconds,
                         .peak_bytes = shared.peak_bytes,
                         .resident_bytes = shared.resident_bytes});
    if (step < steps && shared.stop != Stop::none) return stopped(shared.stop, step, steps);
    if (loop.evaluation && evaluation_due(job.train(), step)) {
      const bool complete = evaluate(loop, step);
      if (!complete && step < steps) return stopped(share(loop.ranks, stop_signal(), 0).stop, step, steps);
      if (!complete && loop.report) loop.report->say("held out: the evaluation was stopped by a signal");
      last_end = Clock::now();
    }
    if (step == steps) break;
    if (every > 0 && step % every == 0) {
      loop.save(step);
      last_end = Clock::now();  // a step's time is the time of training
    }
  }
  return stopped(Stop::none, steps, steps);
}

}  // namespace plasmid
