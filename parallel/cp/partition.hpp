#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "runtime/base/index.hpp"
#include "runtime/base/recycled.hpp"

namespace plasmid {

enum class Layout : std::uint8_t { contiguous, zigzag };

// Who owns which tokens of a batch line (see TokenMap): one list of ascending, disjoint ranges per holder.
using Shards = std::vector<std::vector<Range>>;

// Splits each of `samples` samples of `length` tokens over `holders`, and lays the samples end to end.
//   contiguous  holder r has piece r of `holders`
//   zigzag      2 * holders pieces; holder r has pieces r and 2 * holders - 1 - r, so that under a causal mask every
//               holder's work is equal (the striping of Llama-3's context parallelism)
// Pieces differ by at most one token; any length works, also one below the number of pieces (some pieces are empty, and
// empty or adjacent ranges are dropped or joined). Every token has exactly one holder.
Shards make_shards(Index samples, Index length, int holders, Layout);

Index token_count(std::span<const Range> owned);

// Local index of the first owned token at or after `global`; owned tokens of [a, b) are local [index_of(a),
// index_of(b)).
class LocalIndex {
 public:
  explicit LocalIndex(std::span<const Range> owned);
  Index of(Index global) const;  // O(log ranges)
  Index global(Index local) const;
  Index size() const { return first_.back(); }

 private:
  RecycledVector<Range> owned_;
  RecycledVector<Index> first_;  // local index of each range's first token, then the total
};

}  // namespace plasmid
