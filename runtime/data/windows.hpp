#pragma once
#include <cstdint>
#include <vector>

#include "runtime/base/index.hpp"
#include "runtime/data/corpus.hpp"

namespace plasmid {

enum class Order : std::uint8_t { shuffled, sequential };

struct LoaderOptions {
  Index length = 0;  // tokens a window, T
  Order order = Order::shuffled;
  // true: records follow one another in a window. false: a window holds (part of) one record, the rest is padding.
  bool pack = true;
  std::uint64_t seed = 1;
  bool circular = false;            // every record is a circle
  bool reverse_complement = false;  // of nucleotides: about half of the windows are read from the other strand
};

// Neighbouring tokens of one record in the order in which a window reads them: one document of a batch.
struct Stretch {
  Range record;          // of the corpus: where its labels may come from
  Index first = 0;       // corpus index of the token that is read first
  Index count = 0;       // at most the record's size; the token after the last is a label where the record holds one
  bool ring = false;     // the record's end is followed by its begin
  bool reverse = false;  // towards the record's begin, complemented
};

// Cuts a corpus into windows of T tokens, L being a record's tokens and N those of all:
//   packed            window i has inputs [i*T, (i+1)*T) of the line of all records and labels one further; the last
//   may
//                     be short. There are ceil((N - 1) / T), at least one: a corpus of i*T + 1 tokens has no window
//                     that holds its last token as an input only. A label across a record's end does not count.
//   not packed        each record is cut like that by itself, ceil((L - 1) / T) windows, at least one.
//   circular          a record's last token is followed by its first, which is its label. Every token is an input once
//                     an epoch, and the last window goes on across the origin to its full length, so that none is
//                     short where there are T tokens. Not packed: ceil(L / T) windows a record; one shorter than T
//                     fills a window's begin, once around. Packed: ceil(N / T) windows of the line, in which every
//                     record lies opened at its origin; after the last record follows the first. (A single record is
//                     the same circle either way.) The origin is the record's begin where the order is sequential; a
//                     shuffled epoch draws another for each record, so that it is cut elsewhere every time.
//   reverse           a coin for each window of each epoch decides whether it is read as it stands or as its reverse
//                     complement: the same inputs [a, b) as comp(x[b-1]) .. comp(x[a]), a token's label being the
//                     complement of the one before it in the file, for the last comp(x[a-1]). Records and their
//                     borders come in reverse order; padding stays at the window's end.
// Positions restart per record and per window. Origins and coins are drawn from (seed, epoch, record or window) alone.
class Windows {
 public:
  Windows(Corpus&, const LoaderOptions&);  // borrows the corpus; throws Error{config} for a length below 1
  Index count() const { return count_; }
  Index padding() const { return padding_; }  // tokens of all windows together that no record fills

  // The documents of window `draw % count()` in epoch `draw / count()`, in reading order, T tokens at most.
  RecycledVector<Stretch> stretches(Index draw) const;

 private:
  RecycledVector<Stretch> straight(Index window) const;
  RecycledVector<Stretch> around(Index window, std::uint64_t epoch) const;
  Range record(std::size_t i) const;
  Index opened_at(std::size_t record, Index offset, std::uint64_t epoch) const;

  Corpus& corpus_;
  LoaderOptions options_;
  Index count_ = 0, padding_ = 0;
  std::vector<Index> record_begin_;   // where windows know records: not packed, or circular
  std::vector<Index> record_window_;  // not packed: the first window of each record
};

}  // namespace plasmid
