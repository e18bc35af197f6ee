#pragma once
#include <algorithm>
#include <cstdint>

#include "runtime/base/index.hpp"
#include "runtime/base/recycled.hpp"
#include "runtime/nn/token_map.hpp"

namespace plasmid {

struct KeySpan {  // local key indices [begin, end) that a query row may see; begin == end: none
  std::int32_t begin = 0, end = 0;
  bool operator==(const KeySpan&) const = default;
};

struct Tile {  // of a fixed grid over (query rows, keys)
  std::int32_t query = 0, key = 0;
  bool operator==(const Tile&) const = default;
};

// The one form of mask that kernels know, of one holder's query rows against one holder's keys: an interval of keys per
// row; optionally a list of live tiles (block-sparse patterns; a tile not listed is masked); optionally a validity byte
// per key. Everything compiles to it: causal, windows, documents, samples, padding, blocks.
struct MaskPlan {
  Index queries = 0, keys = 0;
  RecycledVector<KeySpan> rows;            // [queries]
  Index tile = 0;                          // edge of the grid of `tiles`; 0: every tile is live
  RecycledVector<Tile> tiles;              // ordered by (query, key)
  RecycledVector<std::uint8_t> key_valid;  // [keys]; empty: all valid
  bool operator==(const MaskPlan&) const = default;
  bool allows(Index row, Index key) const;
  bool empty() const;   // no row sees any key: nothing to do on this hop
  Index pairs() const;  // (row, key) pairs the spans and valid bits admit: the work
};

// Which keys of the batch line a query may see, besides staying in its document. A further pattern is one more struct.
struct Pattern {
  static constexpr Index kUnlimited = INT64_MAX / 4;
  Index left = kUnlimited, right = kUnlimited;  // keys from query - left to query + right, inclusive
  // Where not 0: positions of a document are cut into chunks of so many, and no key before those of the chunk before
  // the query's own is seen (the local layers of Kitaev et al. 2020).
  Index chunk = 0;
  static constexpr Pattern local(Index chunk) { return {kUnlimited, 0, chunk}; }
  // The first place of the line that a query at `query` may see, in a document that begins at `document`.
  constexpr Index first_key(Index document, Index query) const {
    Index first = query - document < left ? document : query - left;
    if (chunk > 0) first = std::max(first, document + std::max<Index>(0, (query - document) / chunk - 1) * chunk);
    return first;
  }
  bool operator==(const Pattern&) const = default;
  static constexpr Pattern full() { return {}; }
  static constexpr Pattern causal() { return {kUnlimited, 0}; }
};

// The plan of the queries that shard `query_shard` owns against the keys that `key_shard` owns. Pure: reads only the
// parts of the map that are equal on all ranks.
MaskPlan plan_mask(const TokenMap&, Index query_shard, Index key_shard, const Pattern&);

}  // namespace plasmid
