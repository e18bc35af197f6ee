#include "launcher/bench/ring_prediction.hpp"

#include <algorithm>

#include "launcher/planner/step_time.hpp"
#include "runtime/base/check.hpp"

namespace plasmid::bench {

ReplayTimes predict_ring(const AttentionShape& shape, int ranks, const ReplayTimes& pair, const Link& link,
                         double bytes_per_second) {
  StepShape step;
  step.heads = shape.heads, step.kv_heads = shape.kv_heads, step.head_dim = shape.d;
  step.sequence = shape.tokens, step.pattern = shape.pattern;
  Rates rates;
  rates.attention = {{1, pair.forward, pair.backward}};
  rates.bytes = bytes_per_second;
  const RingLoad load = ring_load(step, rates, ranks);
  const Network network{link, link, 1};
  return {forward_seconds(load, network), backward_seconds(load, network)};
}

Link link_of(double few_bytes, double few_seconds, double many_bytes, double many_seconds) {
  PLASMID_CHECK(many_bytes > few_bytes) << many_bytes << " bytes are not more than " << few_bytes;
  // Where noise made the few bytes as slow as the many, some of the time is still that of the bytes.
  const double wire = std::max(many_seconds - few_seconds, many_seconds / 10) / (many_bytes - few_bytes);
  return {std::max(0.0, many_seconds - wire * many_bytes), 1 / wire, 0};
}

}  // namespace plasmid::bench
