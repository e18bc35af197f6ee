#include <cmath>

#include "runtime/base/check.hpp"
#include "runtime/optim/optimizer.hpp"

namespace plasmid {

void adamw_step(const AdamW& o, Index step, float gradient_scale, std::span<float> parameter, std::span<float> gradient,
                std::span<float> first_moment, std::span<float> second_moment) {
  PLASMID_CHECK(gradient.size() == parameter.size() && first_moment.size() == parameter.size() &&
                second_moment.size() == parameter.size());
  const float correct1 = static_cast<float>(1 / (1 - std::pow(o.beta1, step)));
  const float correct2 = static_cast<float>(1 / (1 - std::pow(o.beta2, step)));
  for (std::size_t i = 0; i < parameter.size(); ++i) {
    const float g = gradient_scale * gradient[i];
    first_moment[i] = o.beta1 * first_moment[i] + (1 - o.beta1) * g;
    second_moment[i] = o.beta2 * second_moment[i] + (1 - o.beta2) * g * g;
    parameter[i] =
        parameter[i] * (1 - o.learning_rate * o.decay) -
        o.learning_rate * (first_moment[i] * correct1) / (std::sqrt(second_moment[i] * correct2) + o.epsilon);
    gradient[i] = 0;
  }
}

double sum_of_squares(std::span<const float> values) {
  double sum = 0;
  for (const float value : values) sum += static_cast<double>(value) * value;
  return sum;
}

}  // namespace plasmid
