#pragma once
#include <cstdint>
#include <vector>

#include "runtime/base/index.hpp"
#include "runtime/data/corpus.hpp"
#include "runtime/nn/token_map.hpp"

namespace plasmid {

enum class Order : std::uint8_t { shuffled, sequential };

struct LoaderOptions {
  Index length = 0;  // tokens a window, T
  Order order = Order::shuffled;
  bool pack =
      true;  // records follow one another in a window; false: a window holds (part of) one record, the rest is padding
  std::uint64_t seed = 1;
};

// One holder's share of a batch of windows. Owns what its TokenMap borrows (but the shards, which the caller keeps).
struct Batch {
  std::vector<std::int32_t> tokens;  // [tokens] of this holder, in local order; padding reads as 0
  std::vector<std::int32_t> labels;  // [tokens]; -1: not counted (padding, the last token of a record, masked bases)
  std::vector<std::int32_t> position, document, sample;
  std::vector<Index> document_begin;
  std::vector<std::uint8_t> key_valid;
  TokenMap map;
};

// Cuts a corpus into windows: window i has inputs [i*T, (i+1)*T) of the line and labels one further; the last may be
// short and is padded. A label across a record's end does not count; positions restart per record and per window.
//   sequential  row b of step s (from 0) is window (s * batch + b) mod windows
//   shuffled    row b of step s is element s * batch + b of an endless sequence of permutations of all windows, one an
//               epoch, from the seed alone (a keyed bijection: no table, so any window of any epoch is found in O(1))
class Loader {
 public:
  Loader(Corpus&, LoaderOptions);  // borrows the corpus
  Index windows() const;
  Index window_of(Index step, Index row, Index batch) const;

  // The part that shards[shard] owns of the batch whose sample j is windows[j], samples end to end. Reads only the
  // tokens it returns (and each range's successor, for the labels). `first_sample` numbers the samples in the job's
  // batch.
  Batch read(std::span<const Index> windows, std::span<const std::vector<Range>> shards, Index shard,
             Index first_sample);

 private:
  Corpus& corpus_;
  LoaderOptions options_;
};

}  // namespace plasmid
