#include "runtime/data/loader.hpp"

#include <algorithm>
#include <limits>
#include <string>

#include "runtime/base/check.hpp"
#include "runtime/base/error.hpp"
#include "runtime/data/permutation.hpp"

namespace plasmid {
namespace {

Index windows_in(Index tokens, Index length) { return std::max<Index>(1, ceil_div(tokens - 1, length)); }

ConstView borrow(const std::vector<std::int32_t>& values) { return view_of(std::span(values)); }

std::int32_t narrow(Index value) {
  PLASMID_CHECK(0 <= value && value <= std::numeric_limits<std::int32_t>::max()) << value;
  return static_cast<std::int32_t>(value);
}

}  // namespace

Loader::Loader(Corpus& corpus, LoaderOptions options) : corpus_(corpus), options_(options) {
  if (options.length < 1)
    throw Error(ErrorCode::config, "data.sequence_length: " + std::to_string(options.length) + " is below 1");
  if (options.pack) {
    window_count_ = windows_in(corpus.size(), options.length);
    return;
  }
  record_begin_ = corpus.record_begins(0, corpus.size());
  for (std::size_t i = 0; i < record_begin_.size(); ++i) {
    const Index end = i + 1 < record_begin_.size() ? record_begin_[i + 1] : corpus.size();
    record_window_.push_back(window_count_);
    window_count_ += windows_in(end - record_begin_[i], options.length);
  }
}

Index Loader::window_of(Index step, Index row, Index batch) const {
  PLASMID_CHECK(step >= 0 && 0 <= row && row < batch) << "row " << row << " of " << batch << ", step " << step;
  const Index element = step * batch + row, epoch = element / window_count_, place = element % window_count_;
  if (options_.order == Order::sequential) return place;
  return permuted(place, window_count_, options_.seed, static_cast<std::uint64_t>(epoch));
}

Loader::Window Loader::window(Index index) const {
  PLASMID_CHECK(0 <= index && index < window_count_) << "window " << index << " of " << window_count_;
  Index begin = 0, end = corpus_.size();  // of what is cut into windows: the line, or one record
  if (!options_.pack) {
    const auto after = std::ranges::upper_bound(record_window_, index);
    const auto record = static_cast<std::size_t>(after - record_window_.begin()) - 1;
    index -= record_window_[record];
    begin = record_begin_[record];
    if (record + 1 < record_begin_.size()) end = record_begin_[record + 1];
  }
  begin += index * options_.length;
  return {{begin, std::min(begin + options_.length, end)}, end};
}

Batch Loader::read(std::span<const Index> windows, std::span<const std::vector<Range>> shards, Index shard,
                   Index first_sample) {
  PLASMID_CHECK(0 <= shard && shard < static_cast<Index>(shards.size()));
  const Index length = options_.length, total = static_cast<Index>(windows.size()) * length;
  Batch batch;
  std::vector<Window> cut;
  bool padded = false;
  for (const Index index : windows) {
    const Index line = static_cast<Index>(cut.size()) * length;
    const Range tokens = cut.emplace_back(window(index)).tokens;
    batch.document_begin.push_back(line);
    for (const Index record : corpus_.record_begins(tokens.begin + 1, tokens.end))
      batch.document_begin.push_back(line + record - tokens.begin);
    if (tokens.size() == length) continue;
    padded = true;
    batch.document_begin.push_back(line + tokens.size());
  }
  batch.document_begin.push_back(total);
  if (padded) {
    batch.key_valid.assign(static_cast<std::size_t>(total), 1);
    for (std::size_t j = 0; j < cut.size(); ++j) {
      const auto line = batch.key_valid.begin() + static_cast<Index>(j) * length;
      std::fill(line + cut[j].tokens.size(), line + length, std::uint8_t{0});
    }
  }

  const std::vector<Range>& ranges = shards[static_cast<std::size_t>(shard)];
  Index owned = 0;
  for (const Range range : ranges) owned += range.size();
  for (auto* values : {&batch.tokens, &batch.labels, &batch.position, &batch.document, &batch.sample})
    values->reserve(static_cast<std::size_t>(owned));
  for (const Range range : ranges) {
    PLASMID_CHECK(0 <= range.begin && range.begin <= range.end && range.end <= total) << "a shard leaves the line";
    read_range(range, cut, first_sample, batch);
  }
  batch.map = {borrow(batch.position), borrow(batch.document), borrow(batch.sample), shards, shard,
               batch.document_begin,   batch.key_valid};
  return batch;
}

// Appends the tokens of one range of the line; a range may span samples.
void Loader::read_range(Range owned, std::span<const Window> windows, Index first_sample, Batch& batch) {
  auto next = std::ranges::upper_bound(batch.document_begin, owned.begin);
  for (Index at = owned.begin; at < owned.end;) {
    const Index sample = at / options_.length, line = sample * options_.length;
    const Index stop = std::min(owned.end, line + options_.length);
    const Window& from = windows[static_cast<std::size_t>(sample)];
    const Index real = std::clamp<Index>(from.tokens.begin + stop - line, from.tokens.begin, from.tokens.end);
    const Index begin = std::min(from.tokens.begin + at - line, real);

    const Corpus::Piece piece = corpus_.read(begin, begin == real ? real : std::min(real + 1, from.end));
    const auto count = static_cast<std::size_t>(real - begin), first = batch.labels.size();
    batch.tokens.insert(batch.tokens.end(), piece.tokens.begin(), piece.tokens.begin() + (real - begin));
    batch.labels.resize(first + count, -1);
    for (std::size_t i = 1; i < piece.tokens.size(); ++i)
      if (piece.counts[i]) batch.labels[first + i - 1] = piece.tokens[i];
    for (const Index record : corpus_.record_begins(begin + 1, real + 1))
      batch.labels[first + static_cast<std::size_t>(record - 1 - begin)] = -1;

    const auto padding = static_cast<std::size_t>(stop - at) - count;
    batch.tokens.insert(batch.tokens.end(), padding, 0);
    batch.labels.insert(batch.labels.end(), padding, -1);
    batch.sample.insert(batch.sample.end(), static_cast<std::size_t>(stop - at), narrow(first_sample + sample));
    while (at < stop) {
      while (*next <= at) ++next;
      const Index document = next - batch.document_begin.begin() - 1, document_begin = *(next - 1);
      for (const Index end = std::min(stop, *next); at < end; ++at) {
        batch.document.push_back(narrow(document));
        batch.position.push_back(narrow(at - document_begin));
      }
    }
  }
}

}  // namespace plasmid
