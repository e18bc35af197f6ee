#include <algorithm>
#include <cmath>

#include "runtime/ops/cross_entropy.hpp"
#include "runtime/ops/rows.hpp"

namespace plasmid::ops::ref {

double cross_entropy_forward(ConstView logits, ConstView label, View lse) {
  const Index tokens = logits.dim(0), vocabulary = logits.dim(1);
  const auto rows = rows_of<float>(logits, tokens, vocabulary);
  const std::int32_t* labels = vector_of<std::int32_t>(label, tokens);
  float* const lses = vector_of<float>(lse, tokens);
  double loss = 0;
  for (Index t = 0; t < tokens; ++t) {
    PLASMID_CHECK(labels[t] >= -1 && labels[t] < vocabulary) << "label " << labels[t] << " of " << vocabulary;
    const double top = *std::max_element(rows[t], rows[t] + vocabulary);
    double sum = 0;
    for (Index v = 0; v < vocabulary; ++v) sum += std::exp(rows[t][v] - top);
    const double row_lse = top + std::log(sum);
    lses[t] = static_cast<float>(row_lse);
    if (labels[t] >= 0) loss += row_lse - rows[t][labels[t]];
  }
  return loss;
}

void cross_entropy_backward(View logits, ConstView label, ConstView lse, float scale) {
  const Index tokens = logits.dim(0), vocabulary = logits.dim(1);
  const auto rows = rows_of<float>(logits, tokens, vocabulary);
  const std::int32_t* labels = vector_of<std::int32_t>(label, tokens);
  const float* lses = vector_of<float>(lse, tokens);
  for (Index t = 0; t < tokens; ++t)
    for (Index v = 0; v < vocabulary; ++v) {
      const double softmax = std::exp(static_cast<double>(rows[t][v]) - lses[t]);
      rows[t][v] = labels[t] < 0 ? 0 : static_cast<float>(scale * (softmax - (v == labels[t] ? 1 : 0)));
    }
}

}  // namespace plasmid::ops::ref
