#include <algorithm>

#include "runtime/base/check.hpp"
#include "runtime/base/error.hpp"
#include "runtime/data/bpe/stages.hpp"

namespace plasmid::bpe {
namespace {

std::string_view slice(std::string_view text, Range range) {
  return text.substr(static_cast<std::size_t>(range.begin), static_cast<std::size_t>(range.size()));
}

}  // namespace

WordSplitter::WordSplitter(const std::vector<PreTokenizer>& steps, const Merges& merges, const std::string& where)
    : merges_(merges) {
  bool split = false;
  for (const PreTokenizer& step : steps) {
    if (const auto* mark = std::get_if<Mark>(&step)) {
      if (split && mark->prefix == Prefix::first)
        throw Error(ErrorCode::config, where + ": pre_tokenizer: prepend_scheme first behind a split is not supported");
      steps_.push_back(*mark);
      first_split_ += !split;
    } else {
      const auto& given = std::get<Split>(step);
      steps_.push_back(
          SplitStep{Regex(given.pattern, given.literal, where + ": pre_tokenizer"), given.behavior, given.invert});
      split = true;
    }
  }
}

bool WordSplitter::needs_mark(std::string_view piece, const Mark& mark) const {
  if (mark.prefix == Prefix::never || (mark.prefix == Prefix::first && !text_begins_)) return false;
  return !piece.starts_with(mark.mark);
}

std::string WordSplitter::marked(std::string_view text, const Mark& mark) const {
  return mark.mark == " " ? std::string(text) : replaced(text, " ", mark.mark);
}

void WordSplitter::feed(std::string_view part, bool ends, const Word& word) {
  std::string text(part);
  for (std::size_t i = 0; i < first_split_ && !text.empty(); ++i) {
    const Mark& mark = std::get<Mark>(steps_[i]);
    text = marked(text, mark);
    if (!piece_begins_ || !needs_mark(text, mark)) continue;
    text = mark.mark + text;
    prefixed_ = true;
  }
  if (!text.empty()) piece_begins_ = false;
  waiting_ += text;
  if (ends || waiting_.size() >= try_again_) {
    const std::size_t used = first_split_ < steps_.size() ? split_first(ends, word) : cut_words(ends, word);
    waiting_.erase(0, used);
    try_again_ = used == 0 ? 2 * waiting_.size() : 0;
  }
  if (!ends) return;
  PLASMID_CHECK(waiting_.empty());
  if (!piece_begins_) text_begins_ = false;
  piece_begins_ = true;
  prefixed_ = cut_ = false;
  try_again_ = 0;
}

// Segments cover a stretch of text: matches of a pattern and the gaps between them.
std::vector<Range> WordSplitter::grouped(const std::vector<Segment>& segments, Behavior behavior) {
  std::vector<Range> groups;
  const bool backward = behavior == Behavior::merged_with_next;
  bool before = false;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const auto [range, match] = segments[backward ? segments.size() - 1 - i : i];
    const bool merges = behavior == Behavior::contiguous                         ? match == before
                        : behavior == Behavior::merged_with_previous || backward ? match && !before
                                                                                 : false;
    before = match;
    if (behavior == Behavior::removed && match) continue;
    if (!merges || groups.empty())
      groups.push_back(range);
    else if (backward)
      groups.back().begin = range.begin;
    else
      groups.back().end = range.end;
  }
  if (backward) std::ranges::reverse(groups);
  return groups;
}

// Splits what waits at the first splitting step. Returns how much of it is done.
std::size_t WordSplitter::split_first(bool ends, const Word& word) {
  SplitStep& step = std::get<SplitStep>(steps_[first_split_]);
  const auto size = static_cast<Index>(waiting_.size());
  std::vector<Segment> segments;
  Index at = 0;
  for (Range match;
       at < size && step.regex.find(waiting_, static_cast<std::size_t>(at), ends, match) == Regex::Found::match;
       at = match.end) {
    if (match.begin > at) segments.push_back({{at, match.begin}, step.invert});
    segments.push_back({match, !step.invert});
  }
  if (ends && at < size) segments.push_back({{at, size}, step.invert});
  if (ends) at = size;
  std::vector<Range> groups = grouped(segments, step.behavior);
  const bool merges = step.behavior != Behavior::removed && step.behavior != Behavior::isolated;
  if (merges && !ends && !groups.empty()) {  // what follows may join the last
    at = groups.back().begin;
    groups.pop_back();
  }
  for (const Range group : groups) {
    refine(slice(waiting_, group), first_split_ + 1, prefixed_, word);
    prefixed_ = false;
  }
  return static_cast<std::size_t>(at);
}

std::size_t WordSplitter::cut_words(bool ends, const Word& word) {
  const std::string_view text = waiting_;
  std::size_t begin = 0;
  std::string_view before;
  const auto emit = [&](std::size_t end, bool whole) {
    if (begin < end) word(text.substr(begin, end - begin), whole, prefixed_);
    prefixed_ = prefixed_ && begin == end;
    begin = end;
  };
  for (std::size_t at = 0; at < text.size();) {
    const std::string_view unit = text.substr(at, merges_.byte_level() ? 1 : character_length(text[at]));
    if (!before.empty() && merges_.may_cut(before, unit)) {
      cut_ = true;
      emit(at, false);
    }
    before = unit;
    at += unit.size();
  }
  if (ends) emit(text.size(), !cut_);
  return begin;
}

void WordSplitter::refine(std::string_view piece, std::size_t number, bool prefixed, const Word& word) {
  if (number == steps_.size()) return word(piece, true, prefixed);
  if (const auto* mark = std::get_if<Mark>(&steps_[number])) {
    std::string text = marked(piece, *mark);
    const bool prefixes = needs_mark(text, *mark);
    if (prefixes) text = mark->mark + text;
    return refine(text, number + 1, prefixed || prefixes, word);
  }
  SplitStep& step = std::get<SplitStep>(steps_[number]);
  const auto size = static_cast<Index>(piece.size());
  std::vector<Segment> segments;
  Index at = 0;
  for (Range match;
       at < size && step.regex.find(piece, static_cast<std::size_t>(at), true, match) == Regex::Found::match;
       at = match.end) {
    if (match.begin > at) segments.push_back({{at, match.begin}, step.invert});
    segments.push_back({match, !step.invert});
  }
  if (at < size) segments.push_back({{at, size}, step.invert});
  for (const Range group : grouped(segments, step.behavior)) {
    refine(slice(piece, group), number + 1, prefixed, word);
    prefixed = false;
  }
}

}  // namespace plasmid::bpe
