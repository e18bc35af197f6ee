#include "launcher/trainer/yardstick.hpp"

#include <algorithm>
#include <cstdio>
#include <numbers>

#include "launcher/bootstrap/team.hpp"
#include "launcher/trainer/evaluation.hpp"

namespace plasmid {

bool is_quick(const JobData& data) {
  const Index tokens = data.training->size() + data.held_out->size();
  return tokens <= (data.training->vocabulary() == 5 ? Index{1} << 24 : Index{1} << 21);
}

MarkovScore score_yardstick(const JobData& data) {
  MarkovOptions options;
  options.memory_bytes = std::min(options.memory_bytes, machine_bytes() / 4);
  return score_markov(*data.training, *data.held_out, options);
}

std::string describe(const MarkovScore& score, const v1::Data& data) {
  const int best = score.best();
  const double loss = score.nats[static_cast<std::size_t>(best)];
  char text[160];
  std::snprintf(
      text, sizeof text,
      "Markov order %d: loss %.4f nats  %.4f bits/%s  (the best of orders 0 to %d, counted on the training data)", best,
      loss, loss / std::numbers::ln2, symbol_of(data), static_cast<int>(score.nats.size()) - 1);
  return text;
}

}  // namespace plasmid
