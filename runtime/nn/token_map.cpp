#include "runtime/nn/token_map.hpp"

#include <algorithm>
#include <utility>

namespace plasmid {

namespace {

// What past parts of this thread held their ranges in: a part is made for each tile of each layer.
using Shards = std::vector<std::vector<Range>>;
thread_local std::vector<Shards> spare_shards;

Shards take_shards() {
  if (spare_shards.empty()) return Shards(1);
  Shards shards = std::move(spare_shards.back());
  spare_shards.pop_back();
  shards[0].clear();
  return shards;
}

}  // namespace

TokenPart::~TokenPart() { spare_shards.push_back(std::move(shards)); }

TokenPart::TokenPart(const TokenMap& whole, Range rows) : shards(take_shards()), map(whole) {
  for (ConstView* view : {&map.position, &map.document, &map.sample})
    if (view->shape.rank == 1 && view->count() > 0) *view = view->slice(0, rows.begin, rows.end);
  Index local = 0;  // place of the range's first token
  if (!whole.shards.empty())
    for (const Range range : whole.owned()) {
      const Index begin = std::max(rows.begin, local), end = std::min(rows.end, local + range.size());
      if (begin < end) shards[0].push_back({range.begin + begin - local, range.begin + end - local});
      local += range.size();
    }
  map.shards = shards;
  map.shard = 0;
}

}  // namespace plasmid
