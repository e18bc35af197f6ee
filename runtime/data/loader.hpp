#pragma once
#include <cstdint>
#include <vector>

#include "runtime/base/index.hpp"
#include "runtime/data/corpus.hpp"
#include "runtime/data/windows.hpp"
#include "runtime/nn/token_map.hpp"

namespace plasmid {

// One holder's share of a batch of windows. Owns what its TokenMap borrows (but the shards, which the caller keeps), so
// it moves but does not copy.
struct Batch {
  std::vector<std::int32_t> tokens;  // [tokens] of this holder, in local order; padding reads as 0
  std::vector<std::int32_t> labels;  // [tokens]; -1: not counted (padding, the last token of a record, masked bases)
  std::vector<std::int32_t> position, document, sample;
  std::vector<Index> document_begin;    // of the whole batch, equal on every holder; padding is a document of its own
  std::vector<std::uint8_t> key_valid;  // of the whole batch; empty where it has no padding
  TokenMap map;

  Batch() = default;
  Batch(Batch&&) = default;
  Batch& operator=(Batch&&) = default;
};

// Reads a corpus by windows (see Windows), in the order that the options name:
//   sequential  row b of step s (from 0) is window (s * batch + b) mod windows
//   shuffled    row b of step s is element s * batch + b of an endless sequence of permutations of all windows, one an
//               epoch, from the seed alone (a keyed bijection: no table, so any window of any epoch is found in O(1))
// Every pass over all windows is an epoch. A draw is epoch * windows() + window: what a circular corpus or the reverse
// complement make of a window differs from epoch to epoch.
class Loader {
 public:
  Loader(Corpus&, LoaderOptions);  // borrows the corpus; throws Error{config} for a length below 1
  Index windows() const { return windows_.count(); }
  Index padding() const { return windows_.padding(); }  // tokens of all windows together that no record fills
  Index draw_of(Index step, Index row, Index batch) const;
  Index window_of(Index step, Index row, Index batch) const { return draw_of(step, row, batch) % windows(); }

  // The part that shards[shard] owns of the batch whose sample j is draws[j], samples end to end: ranges of the line
  // [0, draws.size() * T). Reads only the tokens it returns (and those that are labels at the ends of its ranges).
  // `first_sample` numbers the samples in the job's batch. `spent`: a batch read before, whose memory is taken over.
  Batch read(std::span<const Index> draws, std::span<const std::vector<Range>> shards, Index shard, Index first_sample,
             Batch spent = {});

 private:
  void read_range(Range owned, std::span<const Stretch> documents, Index first_sample, Batch&);

  Corpus& corpus_;
  LoaderOptions options_;
  Windows windows_;
};

}  // namespace plasmid
