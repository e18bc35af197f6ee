#include "parallel/cp/partition.hpp"

#include <algorithm>

#include "runtime/base/check.hpp"

namespace plasmid {
namespace {

void append(std::vector<Range>& owned, Range range) {
  if (range.begin == range.end) return;
  if (!owned.empty() && owned.back().end == range.begin) {
    owned.back().end = range.end;
  } else {
    owned.push_back(range);
  }
}

}  // namespace

Shards make_shards(Index samples, Index length, int holders, Layout layout) {
  PLASMID_CHECK(samples >= 0 && length >= 0 && holders >= 1);
  Shards shards(static_cast<std::size_t>(holders));
  const Index pieces = layout == Layout::zigzag ? 2 * Index{holders} : Index{holders};
  for (Index sample = 0; sample < samples; ++sample) {
    const auto piece = [&](Index i) {
      return Range{sample * length + length * i / pieces, sample * length + length * (i + 1) / pieces};
    };
    for (Index holder = 0; holder < holders; ++holder) {
      std::vector<Range>& owned = shards[static_cast<std::size_t>(holder)];
      append(owned, piece(holder));
      if (layout == Layout::zigzag) append(owned, piece(pieces - 1 - holder));
    }
  }
  return shards;
}

Index token_count(std::span<const Range> owned) {
  Index count = 0;
  for (const Range range : owned) count += range.size();
  return count;
}

LocalIndex::LocalIndex(std::span<const Range> owned) : owned_(owned.begin(), owned.end()) {
  first_.push_back(0);
  for (const Range range : owned_) first_.push_back(first_.back() + range.size());
}

Index LocalIndex::of(Index global) const {
  const auto after = std::upper_bound(owned_.begin(), owned_.end(), global,
                                      [](Index value, const Range& range) { return value < range.begin; });
  if (after == owned_.begin()) return 0;
  const auto i = static_cast<std::size_t>(after - owned_.begin() - 1);
  return first_[i] + std::min(global - owned_[i].begin, owned_[i].size());
}

Index LocalIndex::global(Index local) const {
  PLASMID_CHECK(0 <= local && local < size());
  const auto i = static_cast<std::size_t>(std::upper_bound(first_.begin(), first_.end(), local) - first_.begin() - 1);
  return owned_[i].begin + local - first_[i];
}

}  // namespace plasmid
