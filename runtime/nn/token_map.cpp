#include "runtime/nn/token_map.hpp"

#include <algorithm>

namespace plasmid {

TokenPart::TokenPart(const TokenMap& whole, Range rows) : shards(1), map(whole) {
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
