#include <algorithm>
#include <cmath>
#include <numbers>

#include "runtime/optim/optimizer.hpp"

namespace plasmid {

double clip_factor(double norm, double clip_norm) {
  return clip_norm == 0 ? 1 : std::min(1.0, clip_norm / (norm + 1e-6));
}

double learning_rate(const ScheduleOptions& options, Index step) {
  if (step < options.warmup_steps)
    return options.peak * static_cast<double>(step) / static_cast<double>(options.warmup_steps);
  const Index falling = options.steps - options.warmup_steps;
  if (options.kind == Schedule::constant || falling <= 0) return options.peak;
  const double done =
      std::clamp(static_cast<double>(step - options.warmup_steps) / static_cast<double>(falling), 0.0, 1.0);
  const double left = options.kind == Schedule::linear ? 1 - done : 0.5 * (1 + std::cos(std::numbers::pi * done));
  return options.final + (options.peak - options.final) * left;
}

}  // namespace plasmid
