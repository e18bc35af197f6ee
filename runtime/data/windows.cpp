#include "runtime/data/windows.hpp"

#include <algorithm>
#include <cstdint>
#include <string>

#include "runtime/base/check.hpp"
#include "runtime/base/error.hpp"
#include "runtime/base/philox.hpp"

namespace plasmid {
namespace {

std::uint64_t keyed(const LoaderOptions& options, const char* name, std::uint64_t epoch, Index item) {
  const Philox::Block bits = Philox::draw(options.seed, name_key(name) + epoch, static_cast<std::uint64_t>(item));
  return std::uint64_t{bits[0]} << 32 | bits[1];
}

std::size_t last_not_above(const std::vector<Index>& ascending, Index value) {
  return static_cast<std::size_t>(std::ranges::upper_bound(ascending, value) - ascending.begin()) - 1;
}

Stretch turned(Stretch stretch) {
  const Index size = stretch.record.size(), last = stretch.first - stretch.record.begin + stretch.count - 1;
  stretch.first = stretch.record.begin + last % size;
  stretch.reverse = true;
  return stretch;
}

}  // namespace

Windows::Windows(Corpus& corpus, const LoaderOptions& options) : corpus_(corpus), options_(options) {
  if (options.length < 1)
    throw Error(ErrorCode::config, "data.sequence_length: " + std::to_string(options.length) + " is below 1");
  const auto add = [&](Index tokens) {  // of a line, or of one record
    const Index inputs = options_.circular ? tokens : std::max<Index>(1, tokens - 1);
    const Index windows = inputs / options_.length + (inputs % options_.length != 0), room = windows * options_.length;
    count_ += windows;
    if (count_ > INT64_MAX / options_.length)
      throw Error(ErrorCode::config, "data.sequence_length: " + std::to_string(options_.length) + " x " +
                                         std::to_string(count_) + " windows are above 2^63 tokens");
    const bool full = options_.circular && tokens >= options_.length;
    padding_ += full ? 0 : room - std::min(tokens, room);
  };
  if (!options.pack || options.circular) record_begin_ = corpus.record_begins(0, corpus.size());
  if (options.pack) {
    add(corpus.size());
    return;
  }
  for (std::size_t i = 0; i < record_begin_.size(); ++i) {
    record_window_.push_back(count_);
    add(record(i).size());
  }
}

Range Windows::record(std::size_t i) const {
  return {record_begin_[i], i + 1 < record_begin_.size() ? record_begin_[i + 1] : corpus_.size()};
}

RecycledVector<Stretch> Windows::stretches(Index draw) const {
  PLASMID_CHECK(draw >= 0) << draw;
  const Index window = draw % count_;
  const auto epoch = static_cast<std::uint64_t>(draw / count_);
  RecycledVector<Stretch> found = options_.circular ? around(window, epoch) : straight(window);
  if (options_.reverse_complement && keyed(options_, "data.strand", epoch, window) & 1) {
    std::ranges::reverse(found);
    std::ranges::transform(found, found.begin(), turned);
  }
  return found;
}

RecycledVector<Stretch> Windows::straight(Index window) const {
  if (!options_.pack) {
    const std::size_t i = last_not_above(record_window_, window);
    const Range whole = record(i);
    const Index begin = whole.begin + (window - record_window_[i]) * options_.length;
    return {{whole, begin, std::min(options_.length, whole.end - begin)}};
  }
  // Of records that reach beyond the window no more is known than that they do.
  const Index begin = window * options_.length, end = std::min(begin + options_.length, corpus_.size());
  const Index before = std::max<Index>(begin - 1, 0), after = std::min(end + 1, corpus_.size());
  const std::vector<Index> begins = corpus_.record_begins(begin, after);
  RecycledVector<Index> borders;
  if (begins.empty() || begins.front() != begin) borders.push_back(before);
  borders.insert(borders.end(), begins.begin(), begins.end());
  if (borders.back() != end) borders.push_back(after);
  RecycledVector<Stretch> found;
  for (std::size_t i = 0; i + 1 < borders.size(); ++i) {
    const Index first = std::max(begin, borders[i]);
    found.push_back({{borders[i], borders[i + 1]}, first, std::min(end, borders[i + 1]) - first});
  }
  return found;
}

// The corpus index of a token that lies `offset` after a record's origin.
Index Windows::opened_at(std::size_t i, Index offset, std::uint64_t epoch) const {
  const Range whole = record(i);
  const auto size = static_cast<std::uint64_t>(whole.size());
  const std::uint64_t origin =
      options_.order == Order::sequential ? 0 : keyed(options_, "data.origin", epoch, static_cast<Index>(i)) % size;
  return whole.begin + static_cast<Index>((static_cast<std::uint64_t>(offset) + origin) % size);
}

RecycledVector<Stretch> Windows::around(Index window, std::uint64_t epoch) const {
  if (!options_.pack) {
    const std::size_t i = last_not_above(record_window_, window);
    const Index offset = (window - record_window_[i]) * options_.length;
    return {{record(i), opened_at(i, offset, epoch), std::min(options_.length, record(i).size()), true}};
  }
  const Index size = corpus_.size();
  RecycledVector<Stretch> found;
  Index at = window * options_.length;
  for (Index left = std::min(options_.length, size); left > 0;) {
    const std::size_t i = last_not_above(record_begin_, at);
    const Index count = std::min(left, record(i).end - at);
    if (record_begin_.size() == 1 && !found.empty())
      found.back().count += count;
    else
      found.push_back({record(i), opened_at(i, at - record(i).begin, epoch), count, true});
    left -= count;
    at = (at + count) % size;
  }
  return found;
}

}  // namespace plasmid
