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
  // true: records follow one another in a window. false: a window holds (part of) one record, the rest is padding.
  bool pack = true;
  std::uint64_t seed = 1;
};

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

// Cuts a corpus into windows: window i has inputs [i*T, (i+1)*T) of the line and labels one further; the last may be
// short and is padded. There are ceil((size - 1) / T) of them, at least one: a corpus of i*T + 1 tokens has no window
// that holds its last token as an input only. Without packing each record is cut like that by itself. A label across a
// record's end does not count; positions restart per record and per window.
//   sequential  row b of step s (from 0) is window (s * batch + b) mod windows
//   shuffled    row b of step s is element s * batch + b of an endless sequence of permutations of all windows, one an
//               epoch, from the seed alone (a keyed bijection: no table, so any window of any epoch is found in O(1))
class Loader {
 public:
  Loader(Corpus&, LoaderOptions);  // borrows the corpus; throws Error{config} for a length below 1
  Index windows() const { return window_count_; }
  Index window_of(Index step, Index row, Index batch) const;

  // The part that shards[shard] owns of the batch whose sample j is windows[j], samples end to end: ranges of the line
  // [0, windows.size() * T). Reads only the tokens it returns (and each range's successor, for the labels).
  // `first_sample` numbers the samples in the job's batch.
  Batch read(std::span<const Index> windows, std::span<const std::vector<Range>> shards, Index shard,
             Index first_sample);

 private:
  struct Window {
    Range tokens;   // of the corpus, at most T; the rest is padding
    Index end = 0;  // of what it may take a label from
  };
  Window window(Index index) const;
  void read_range(Range owned, std::span<const Window> windows, Index first_sample, Batch&);

  Corpus& corpus_;
  LoaderOptions options_;
  Index window_count_ = 0;
  std::vector<Index> record_begin_, record_window_;  // without packing: where each record and its first window begin
};

}  // namespace plasmid
