#include <algorithm>

#include "attention/ring/ring.hpp"
#include "runtime/base/check.hpp"

namespace plasmid {
namespace {

// The keys that some query of a shard may see, as ascending intervals of the line: one per owned range and document,
// since the spans of neighbouring queries overlap or touch.
RecycledVector<Range> visible_keys(const TokenMap& map, std::span<const Range> queries, const Pattern& pattern) {
  RecycledVector<Range> visible;
  if (pattern.left + pattern.right < 0) return visible;
  for (const Range owned : queries) {
    if (owned.size() == 0) continue;
    const auto borders = map.document_begin;
    auto next = std::upper_bound(borders.begin(), borders.end(), owned.begin);
    PLASMID_CHECK(next != borders.begin()) << "token " << owned.begin << " lies in no document";
    for (Index begin = owned.begin; begin < owned.end; begin = *next++) {
      PLASMID_CHECK(next != borders.end()) << "token " << begin << " lies in no document";
      const Index end = std::min(owned.end, *next);
      const Range keys{pattern.first_key(*(next - 1), begin), std::min(*next, end + pattern.right)};
      if (keys.begin < keys.end) visible.push_back(keys);
      if (end == owned.end) break;
    }
  }
  return visible;
}

class Needs {  // who has work with whose keys
 public:
  Needs(const TokenMap& map, const Pattern& pattern) : map_(map) {
    for (const std::vector<Range>& shard : map.shards) visible_.push_back(visible_keys(map, shard, pattern));
    const auto valid = map.key_valid;
    for (auto at = valid.begin(); at != valid.end();) {
      const auto first = std::find_if(at, valid.end(), [](auto v) { return v != 0; });
      at = std::find(first, valid.end(), 0);
      if (first != at) valid_.push_back({first - valid.begin(), at - valid.begin()});
    }
  }

  bool work(int query_shard, int key_shard) const {
    const std::vector<Range>& owned = map_.shards[static_cast<std::size_t>(key_shard)];
    for (const Range keys : visible_[static_cast<std::size_t>(query_shard)]) {
      auto range = std::upper_bound(owned.begin(), owned.end(), keys.begin,
                                    [](Index key, const Range& candidate) { return key < candidate.end; });
      for (; range != owned.end() && range->begin < keys.end; ++range)
        if (any_valid(std::max(keys.begin, range->begin), std::min(keys.end, range->end))) return true;
    }
    return false;
  }

 private:
  bool any_valid(Index begin, Index end) const {
    if (map_.key_valid.empty()) return begin < end;
    const auto next = std::upper_bound(valid_.begin(), valid_.end(), begin,
                                       [](Index key, const Range& candidate) { return key < candidate.end; });
    return next != valid_.end() && next->begin < end;
  }

  const TokenMap& map_;
  RecycledVector<RecycledVector<Range>> visible_;  // by query shard
  RecycledVector<Range> valid_;                    // keys that are not padding, where the map knows of padding
};

struct Journey {  // hops at which the chunk of one source is first and last worked on elsewhere; 0: nowhere
  int first = 0, last = 0;
};

Journey journey_of(const Needs& needs, int source, int size) {
  Journey journey;
  for (int hop = size - 1; hop > 0 && journey.last == 0; --hop)
    if (needs.work((source + hop) % size, source)) journey.last = hop;
  for (int hop = 1; hop <= journey.last && journey.first == 0; ++hop)
    if (needs.work((source + hop) % size, source)) journey.first = hop;
  return journey;
}

RecycledVector<Journey> journeys_of(const Needs& needs, int size) {
  RecycledVector<Journey> journeys;
  for (int source = 0; source < size; ++source) journeys.push_back(journey_of(needs, source, size));
  return journeys;
}

RecycledVector<Hop> schedule(const Needs& needs, const RecycledVector<Journey>& journeys, int rank) {
  const int size = static_cast<int>(journeys.size()), next_rank = (rank + 1) % size;
  const auto journey_from = [&](int source) { return journeys[static_cast<std::size_t>(source)]; };
  const Journey own = journey_from(rank);
  RecycledVector<Hop> hops;
  int length = 0;  // without trailing hops that do nothing
  for (int s = 0; s < size; ++s) {
    Hop hop;
    hop.source = (rank + size - s) % size;
    const Journey journey = journey_from(hop.source);
    hop.work = s <= journey.last && needs.work(rank, hop.source);
    hop.send = s < journey.last;
    hop.receive = s + 1 < size && s < journey_from((hop.source + size - 1) % size).last;
    hop.add_gradient = journey.first > 0 && journey.first < s && s <= journey.last;
    if (journey.first > 0 && journey.first <= s && s <= journey.last)
      hop.gradient_to = s == journey.last ? hop.source : next_rank;
    if (s > 0 && s == own.last) hop.gradient_home_from = (rank + s) % size;
    if (hop.work || hop.send || hop.receive || hop.add_gradient || hop.gradient_to >= 0 || hop.gradient_home_from >= 0)
      length = s + 1;
    hops.push_back(hop);
  }
  hops.resize(static_cast<std::size_t>(length));
  return hops;
}

}  // namespace

RecycledVector<Hop> ring_schedule(const TokenMap& map, const Pattern& pattern, int rank, int size) {
  PLASMID_CHECK(std::ssize(map.shards) == size) << map.shards.size() << " shards over " << size << " ranks";
  PLASMID_CHECK(0 <= rank && rank < size) << "rank " << rank << " of " << size;
  const Needs needs(map, pattern);
  return schedule(needs, journeys_of(needs, size), rank);
}

std::vector<RecycledVector<Hop>> ring_schedules(const TokenMap& map, const Pattern& pattern, int size) {
  PLASMID_CHECK(std::ssize(map.shards) == size) << map.shards.size() << " shards over " << size << " ranks";
  const Needs needs(map, pattern);
  const RecycledVector<Journey> journeys = journeys_of(needs, size);
  std::vector<RecycledVector<Hop>> schedules;
  for (int rank = 0; rank < size; ++rank) schedules.push_back(schedule(needs, journeys, rank));
  return schedules;
}

RingPlan plan_ring(const TokenMap& map, const Pattern& pattern, int rank, int size) {
  RingPlan plan{&map, ring_schedule(map, pattern, rank, size), {}};
  for (Hop& hop : plan.hops) {
    if (!hop.work) continue;
    MaskPlan mask = plan_mask(map, rank, hop.source, pattern);
    const auto same = std::ranges::find(plan.masks, mask);
    hop.mask = static_cast<int>(same - plan.masks.begin());
    if (same == plan.masks.end()) plan.masks.push_back(std::move(mask));
  }
  return plan;
}

}  // namespace plasmid
