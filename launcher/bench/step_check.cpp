#include "launcher/bench/step_check.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <sstream>
#include <vector>

#include "launcher/bootstrap/together.hpp"
#include "runtime/base/error.hpp"

namespace plasmid::bench {
namespace {

constexpr double kEpsilon = 0x1p-24;

template <class... Parts>
[[noreturn]] void wrong(const Parts&... parts) {
  std::ostringstream text;
  (text << "a wrong result: " << ... << parts);
  throw Error(ErrorCode::software, text.str());
}

class StepCheck {
 public:
  StepCheck(const Job& job, ProcessMesh& mesh, Corpus& corpus, Index available_bytes)
      : job_(job), ranks_(mesh.world()), trainer_(job, mesh, corpus, available_bytes) {}

  void run() {
    together(ranks_, [&] { trainer_.initialize(); });
    const std::span<float> weights = trainer_.store().weights();
    before_.assign(weights.begin(), weights.end());
    first_ = trainer_.step(1);
    together(ranks_, [&] { check_update(); });
    const double norm = std::sqrt(sum_of_squares(gradient_));
    const double h = 1e-2, slope = slope_at(h), coarse = slope_at(2 * h);
    const double wanted = norm / clip();  // of the unclipped mean gradient
    // The loss is a mean of f32 losses: its own rounding, and that of the scores it comes from, a few times over.
    const double tolerance = std::abs(slope - coarse) + 32 * kEpsilon * first_.loss / h;
    together(ranks_, [&] {
      if (!(tolerance <= 0.1 * wanted))
        wrong("the loss changes by ", slope, " along the gradient over ", h, " and by ", coarse, " over twice that");
      if (!(std::abs(slope - wanted) <= tolerance))
        wrong("the loss changes by ", slope, " along the gradient, whose norm is ", wanted, ": further apart than ",
              tolerance);
    });
  }

 private:
  double clip() const {
    const double limit = job_.fields.optimizer().clip_norm();
    return limit == 0 ? 1 : std::min(1.0, limit / (first_.grad_norm + 1e-6));
  }

  void check_update() {
    const TrainingState state = trainer_.state();
    const v1::Optimizer& options = job_.fields.optimizer();
    const double rate = first_.learning_rate, b1 = options.beta1(), b2 = options.beta2();
    gradient_.assign(before_.size(), 0);
    for (const ParameterPtr& parameter : trainer_.store().parameters())
      for (Index at = std::max(parameter->range.begin, state.moments.begin);
           at < std::min(parameter->range.end, state.moments.end); ++at) {
        const auto i = static_cast<std::size_t>(at), own = static_cast<std::size_t>(at - state.moments.begin);
        const double g = state.first_moment[own] / (1 - b1), old = before_[i];
        gradient_[i] = static_cast<float>(g);
        const double moment = (1 - b2) * g * g, decay = parameter->decays() ? options.weight_decay() : 0;
        const double step = rate * g / (std::abs(g) + options.epsilon()), wanted = old * (1 - rate * decay) - step;
        if (!(std::abs(state.second_moment[own] - moment) <= 16 * kEpsilon * moment + 0x1p-126))
          wrong(parameter->name, ": second moment ", state.second_moment[own], " where AdamW has ", moment);
        if (!(std::abs(trainer_.store().weights()[i] - wanted) <= 4 * kEpsilon * std::abs(old) + 32 * kEpsilon * rate))
          wrong(parameter->name, ": ", trainer_.store().weights()[i], " where AdamW makes ", wanted, " of ", old);
      }
    const double norm = std::sqrt(sum_of_squares(gradient_)), told = first_.grad_norm * clip();
    if (!(std::abs(norm - told) <= 1e-5 * told)) wrong("a gradient of norm ", norm, " that is told as ", told);
  }

  // (loss(w + h u) - loss(w - h u)) / 2h, u the gradient's direction.
  double slope_at(double h) {
    const double norm = std::sqrt(sum_of_squares(gradient_));
    const auto loss_at = [&](double distance) {
      const std::span<float> weights = trainer_.store().weights();
      for (std::size_t i = 0; i < weights.size(); ++i)
        weights[i] = static_cast<float>(before_[i] + distance / norm * gradient_[i]);
      return trainer_.step(1).loss;  // before its update
    };
    const double above = loss_at(h);
    return (above - loss_at(-h)) / (2 * h);
  }

  const Job& job_;
  Communicator& ranks_;
  Trainer trainer_;
  StepResult first_;
  std::vector<float> before_, gradient_;  // weights; the clipped mean gradient, by place in the store
};

}  // namespace

void check_step(const Job& job, ProcessMesh& mesh, Corpus& corpus, Index tokens, Index available_bytes) {
  Job shorter = job;
  shorter.fields.mutable_data()->set_sequence_length(std::min(tokens, job.fields.data().sequence_length()));
  std::optional<StepCheck> check;
  together(mesh.world(), [&] { check.emplace(shorter, mesh, corpus, available_bytes); });
  check->run();
}

}  // namespace plasmid::bench
