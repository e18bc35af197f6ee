#pragma once
#include <cstdint>
#include <span>

#include "runtime/base/index.hpp"

namespace plasmid {

// AdamW (Loshchilov, Hutter 2019, algorithm 2) over a flat range, step t from 1:
//   p *= 1 - lr * decay;  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
//   p -= lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + epsilon)
struct AdamW {
  float learning_rate = 1e-3f, beta1 = 0.9f, beta2 = 0.95f, epsilon = 1e-8f, decay = 0.1f;
};
// g is read as gradient_scale * gradient (1 / tokens and the clip factor in one) and cleared. Spans of one length.
void adamw_step(const AdamW&, Index step, float gradient_scale, std::span<float> parameter, std::span<float> gradient,
                std::span<float> first_moment, std::span<float> second_moment);

// Sum of squares in f64, in an order that does not depend on the number of threads.
double sum_of_squares(std::span<const float>);

// min(1, clip_norm / (norm + 1e-6)); clip_norm 0: no clipping.
double clip_factor(double norm, double clip_norm);

enum class Schedule : std::uint8_t { constant, linear, cosine };
struct ScheduleOptions {
  Schedule kind = Schedule::constant;
  double peak = 1e-3, final = 0;
  Index warmup_steps = 0, steps = 0;
};
// Rate of step (from 1): a linear rise to the peak over the warm-up, step w of which is peak * w / warmup; then
// constant, or linear or half a cosine down to `final`, reached at the last step.
double learning_rate(const ScheduleOptions&, Index step);

}  // namespace plasmid
