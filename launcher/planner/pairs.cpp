#include "launcher/planner/pairs.hpp"

#include <algorithm>

namespace plasmid {
namespace {

double sum_to(Index n) { return n > 0 ? 0.5 * static_cast<double>(n) * static_cast<double>(n + 1) : 0; }

// Pairs of query i and key j with j - i <= distance: the sum over i of min(keys, max(0, i + distance + 1 - first key)).
double pairs_within(Range queries, Range keys, Index distance) {
  const auto over = [&](Index key) {
    return sum_to(queries.end + distance - key) - sum_to(queries.begin + distance - key);
  };
  return over(keys.begin) - over(keys.end);
}

}  // namespace

double count_pairs(std::span<const Range> queries, std::span<const Range> keys, const Pattern& pattern) {
  double pairs = 0;
  for (const Range q : queries)
    for (const Range k : keys) {
      if (q.size() == 0 || k.size() == 0) continue;
      const Index span = std::max(q.end, k.end) - std::min(q.begin, k.begin);  // no two are farther apart
      const Index left = std::min(pattern.left, span), right = std::min(pattern.right, span);
      pairs += std::max(0.0, pairs_within(q, k, right) - pairs_within(q, k, -left - 1));
    }
  return pairs;
}

}  // namespace plasmid
