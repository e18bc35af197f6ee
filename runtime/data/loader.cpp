#include "runtime/data/loader.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "runtime/base/check.hpp"
#include "runtime/data/permutation.hpp"

namespace plasmid {
namespace {

ConstView borrow(const std::vector<std::int32_t>& values) { return view_of(std::span(values)); }

std::int32_t narrow(Index value) {
  PLASMID_CHECK(0 <= value && value <= std::numeric_limits<std::int32_t>::max()) << value;
  return static_cast<std::int32_t>(value);
}

bool is_padding(const Stretch& stretch) { return stretch.record.size() == 0; }

// Tokens [from, to) of a stretch with the one after them, where its record holds one: at most two ranges of the corpus,
// in reading order, each ascending.
RecycledVector<Range> ranges_of(const Stretch& stretch, Index from, Index to) {
  const Range record = stretch.record;
  const Index size = record.size(), place = stretch.first - record.begin;
  const Index left = stretch.reverse ? place + 1 : size - place;  // tokens up to the record's end, in this direction
  Index count = to - from + 1;
  if (!stretch.ring) count = std::min(count, left - from);
  RecycledVector<Range> found;
  for (Index at = (stretch.reverse ? place - from + size : place + from) % size; count > 0;) {
    const Index run = std::min(count, stretch.reverse ? at + 1 : size - at);
    const Index begin = record.begin + (stretch.reverse ? at + 1 - run : at);
    found.push_back({begin, begin + run});
    count -= run;
    at = stretch.reverse ? size - 1 : 0;
  }
  return found;
}

// Reads ranges of the corpus; neighbouring ones that lie within what `hold` named cost one read.
class Reads {
 public:
  explicit Reads(Corpus& corpus) : corpus_(corpus) {}
  void hold(Range range) {
    held_ = range;
    piece_ = corpus_.read(range.begin, range.end);
  }
  void append(Range range, bool reverse, Corpus::Piece& to) {
    if (range.begin < held_.begin || range.end > held_.end) hold(range);
    const auto begin = static_cast<std::size_t>(range.begin - held_.begin), end = begin + count(range);
    for (std::size_t i = 0; i < end - begin; ++i) {
      const std::size_t place = reverse ? end - 1 - i : begin + i;
      const std::int32_t token = piece_.tokens[place];
      to.tokens.push_back(reverse && token < 4 ? 3 - token : token);  // A C G T N; N pairs with N
      to.counts.push_back(piece_.counts[place]);
    }
  }

 private:
  static std::size_t count(Range range) { return static_cast<std::size_t>(range.size()); }
  Corpus& corpus_;
  Range held_;
  Corpus::Piece piece_;
};

// The one range that neighbouring stretches lie in, for a line that runs straight through its records.
Range together(std::span<const Stretch> stretches, Index from, Index to) {
  Range span{std::numeric_limits<Index>::max(), 0};
  for (const Stretch& stretch : stretches) {
    if (!is_padding(stretch) && from < stretch.count && to > 0)
      for (const Range range : ranges_of(stretch, std::max<Index>(from, 0), std::min(to, stretch.count)))
        span = {std::min(span.begin, range.begin), std::max(span.end, range.end)};
    from -= stretch.count, to -= stretch.count;
  }
  return span;
}

}  // namespace

Loader::Loader(Corpus& corpus, LoaderOptions options) : corpus_(corpus), options_(options), windows_(corpus, options) {}

Index Loader::draw_of(Index step, Index row, Index batch) const {
  PLASMID_CHECK(step >= 0 && 0 <= row && row < batch) << "row " << row << " of " << batch << ", step " << step;
  const Index element = step * batch + row, epoch = element / windows(), place = element % windows();
  if (options_.order == Order::sequential) return element;
  return epoch * windows() + permuted(place, windows(), options_.seed, static_cast<std::uint64_t>(epoch));
}

Batch Loader::read(std::span<const Index> draws, std::span<const std::vector<Range>> shards, Index shard,
                   Index first_sample, Batch spent) {
  PLASMID_CHECK(0 <= shard && shard < static_cast<Index>(shards.size()));
  const Index length = options_.length, total = static_cast<Index>(draws.size()) * length;
  Batch batch = std::move(spent);
  batch.document_begin.clear(), batch.key_valid.clear();
  RecycledVector<Stretch> documents;
  RecycledVector<Range> padding;  // of the line
  Index at = 0;
  for (std::size_t j = 0; j < draws.size(); ++j) {
    const Index end = static_cast<Index>(j + 1) * length;
    const auto add = [&](const Stretch& document) {
      batch.document_begin.push_back(at);
      documents.push_back(document);
      at += document.count;
    };
    std::ranges::for_each(windows_.stretches(draws[j]), add);
    if (at == end) continue;
    padding.push_back({at, end});
    add({.record = {}, .count = end - at});
  }
  batch.document_begin.push_back(total);
  if (!padding.empty()) batch.key_valid.assign(static_cast<std::size_t>(total), 1);
  for (const Range range : padding)
    std::fill(batch.key_valid.begin() + range.begin, batch.key_valid.begin() + range.end, std::uint8_t{0});

  const std::vector<Range>& ranges = shards[static_cast<std::size_t>(shard)];
  Index owned = 0;
  for (const Range range : ranges) owned += range.size();
  for (auto* values : {&batch.tokens, &batch.labels, &batch.position, &batch.document, &batch.sample})
    values->clear(), values->reserve(static_cast<std::size_t>(owned));
  for (const Range range : ranges) {
    PLASMID_CHECK(0 <= range.begin && range.begin <= range.end && range.end <= total) << "a shard leaves the line";
    read_range(range, documents, first_sample, batch);
  }
  batch.map = {borrow(batch.position), borrow(batch.document), borrow(batch.sample), shards, shard,
               batch.document_begin,   batch.key_valid,        first_sample * length};
  return batch;
}

// Appends the tokens of one range of the line; a range may span documents and samples.
void Loader::read_range(Range owned, std::span<const Stretch> documents, Index first_sample, Batch& batch) {
  const std::vector<Index>& begins = batch.document_begin;
  Reads reads(corpus_);
  auto next = static_cast<std::size_t>(std::ranges::upper_bound(begins, owned.begin) - begins.begin());
  Index sample = -1;
  for (Index at = owned.begin; at < owned.end; at = std::min(owned.end, begins[next++])) {
    const Index document = static_cast<Index>(next) - 1, begin = begins[next - 1],
                end = std::min(owned.end, begins[next]);
    const Stretch& stretch = documents[next - 1];
    if (at / options_.length != sample && !options_.circular) {  // what follows in this window lies in one range
      sample = at / options_.length;
      const Index stop = std::min(owned.end, (sample + 1) * options_.length);
      const auto last = std::ranges::lower_bound(begins, stop) - begins.begin();
      const Range span =
          together(documents.subspan(next - 1, static_cast<std::size_t>(last) - (next - 1)), at - begin, stop - begin);
      if (span.begin < span.end) reads.hold(span);
    }
    sample = at / options_.length;

    const auto count = static_cast<std::size_t>(end - at);
    Corpus::Piece piece;
    if (is_padding(stretch)) {
      piece.tokens.assign(count, 0);
    } else {
      for (const Range range : ranges_of(stretch, at - begin, end - begin)) reads.append(range, stretch.reverse, piece);
    }
    batch.tokens.insert(batch.tokens.end(), piece.tokens.begin(), piece.tokens.begin() + (end - at));
    for (std::size_t i = 1; i <= count; ++i)
      batch.labels.push_back(i < piece.counts.size() && piece.counts[i] ? piece.tokens[i] : -1);
    batch.document.insert(batch.document.end(), count, narrow(document));
    batch.sample.insert(batch.sample.end(), count, narrow(first_sample + sample));
    for (Index i = at; i < end; ++i) batch.position.push_back(narrow(i - begin));
  }
}

}  // namespace plasmid
