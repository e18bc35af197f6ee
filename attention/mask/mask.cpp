#include "attention/mask/mask.hpp"

#include <algorithm>
#include <numeric>

#include "parallel/cp/partition.hpp"
#include "runtime/base/check.hpp"

namespace plasmid {

bool MaskPlan::allows(Index row, Index key) const {
  const KeySpan span = rows[static_cast<std::size_t>(row)];
  if (key < span.begin || key >= span.end) return false;
  if (!key_valid.empty() && key_valid[static_cast<std::size_t>(key)] == 0) return false;
  if (tile == 0) return true;
  const Tile wanted{static_cast<std::int32_t>(row / tile), static_cast<std::int32_t>(key / tile)};
  return std::ranges::binary_search(
      tiles, wanted, [](Tile a, Tile b) { return a.query != b.query ? a.query < b.query : a.key < b.key; });
}

bool MaskPlan::empty() const {
  if (tile > 0 && tiles.empty()) return true;
  return std::ranges::none_of(rows, [](KeySpan span) { return span.begin < span.end; });
}

Index MaskPlan::pairs() const {
  if (key_valid.empty()) {
    Index sum = 0;
    for (const KeySpan span : rows) sum += span.end - span.begin;
    return sum;
  }
  std::vector<Index> valid(key_valid.size() + 1, 0);  // prefix counts
  std::partial_sum(key_valid.begin(), key_valid.end(), valid.begin() + 1, [](Index a, Index b) { return a + b; });
  Index sum = 0;
  for (const KeySpan span : rows)
    sum += valid[static_cast<std::size_t>(span.end)] - valid[static_cast<std::size_t>(span.begin)];
  return sum;
}

MaskPlan plan_mask(const TokenMap& map, Index query_shard, Index key_shard, const Pattern& pattern) {
  const std::span<const Range> queries = map.shards[static_cast<std::size_t>(query_shard)];
  const std::span<const Range> keys = map.shards[static_cast<std::size_t>(key_shard)];
  const LocalIndex local(keys);
  PLASMID_CHECK(local.size() < INT32_MAX) << "a shard holds more keys than a span can name";

  MaskPlan plan;
  plan.queries = token_count(queries);
  plan.keys = local.size();
  plan.rows.reserve(static_cast<std::size_t>(plan.queries));
  for (const Range owned : queries) {
    auto next = std::upper_bound(map.document_begin.begin(), map.document_begin.end(), owned.begin);
    for (Index query = owned.begin; query < owned.end; ++query) {
      while (next != map.document_begin.end() && *next <= query) ++next;
      PLASMID_CHECK(next != map.document_begin.begin() && next != map.document_begin.end())
          << "token " << query << " lies in no document";
      const Index begin = pattern.first_key(*(next - 1), query);
      const Index end = std::min(*next, query + std::min(pattern.right, *next - query) + 1);
      const Index first = local.of(begin), last = std::max(first, local.of(end));
      plan.rows.push_back({static_cast<std::int32_t>(first), static_cast<std::int32_t>(last)});
    }
  }
  if (!map.key_valid.empty()) {
    plan.key_valid.reserve(static_cast<std::size_t>(plan.keys));
    for (const Range owned : keys)
      plan.key_valid.insert(plan.key_valid.end(), map.key_valid.begin() + owned.begin,
                            map.key_valid.begin() + owned.end);
    if (std::ranges::all_of(plan.key_valid, [](std::uint8_t valid) { return valid != 0; })) plan.key_valid.clear();
  }
  return plan;
}

}  // namespace plasmid
