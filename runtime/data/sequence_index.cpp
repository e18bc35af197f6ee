#include "runtime/data/sequence_index.hpp"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstring>
#include <utility>

#include "runtime/base/error.hpp"
#include "runtime/base/quote.hpp"

namespace plasmid {
namespace {

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

}  // namespace

std::size_t SequenceIndex::stripe_of(Index token) const {
  const auto after = std::ranges::upper_bound(stripes, token, {}, &Stripe::token);
  return static_cast<std::size_t>(after - stripes.begin()) - 1;
}

Index SequenceIndex::stripe_end(std::size_t stripe) const {
  return stripe + 1 < stripes.size() ? stripes[stripe + 1].token : tokens;
}

Index SequenceIndex::offset_of(std::size_t stripe, Index token) const {
  const Stripe& in = stripes[stripe];
  const Index place = token - in.token;
  if (in.letters_in_line == 0) return in.offset + place;
  return in.offset + place / in.letters_in_line * in.line + place % in.letters_in_line;
}

SequenceScanner::SequenceScanner(std::string file, Form form, const Alphabet& alphabet)
    : file_(std::move(file)), form_(form), alphabet_(alphabet), in_record_(form == Form::plain) {}

void SequenceScanner::scan(std::span<const char> part) {
  part_ = part.data();
  const char* at = part.data();
  const char* const end = at + part.size();
  while (at != end) {
    if (state_ == State::line_start) start_line(part_offset_ + (at - part_), *at);
    at = state_ == State::header    ? scan_header(at, end)
         : state_ == State::letters ? scan_letters(at, end)
                                    : scan_blanks(at, end);
  }
  part_offset_ += static_cast<Index>(part.size());
}

SequenceIndex SequenceScanner::finish() {
  if (state_ != State::line_start) end_line(part_offset_);
  end_record();
  if (index_.tokens == 0)
    throw Error(ErrorCode::data, file_ + (part_offset_ == 0 ? ": is empty" : ": holds no sequence"));
  if (empty_records_ > 0)
    index_.warnings.push_back(file_ + ": " + std::to_string(empty_records_) +
                              (empty_records_ == 1 ? " record is" : " records are") +
                              " empty and left out, the first " + first_empty_);
  return std::move(index_);
}

void SequenceScanner::start_line(Index offset, char first) {
  ++line_number_;
  line_offset_ = offset;
  line_letters_ = 0;
  state_ = State::letters;
  if (first != '>') return;
  if (form_ == Form::plain) refuse("starts with '>'; a FASTA file is named .fa, .fasta or .fna");
  end_record();
  state_ = State::header;
  stripe_open_ = name_complete_ = false;
  in_record_ = true;
  record_.clear();
  record_line_ = line_number_;
}

const char* SequenceScanner::scan_header(const char* at, const char* end) {
  constexpr std::size_t kLongestName = 120;
  const auto* line_end = static_cast<const char*>(std::memchr(at, '\n', static_cast<std::size_t>(end - at)));
  const char* const stop = line_end ? line_end : end;
  for (const char* c = at; c != stop && !name_complete_; ++c) {
    if (c == at && part_offset_ + (c - part_) == line_offset_) continue;  // the '>'
    name_complete_ = is_blank(*c) || record_.size() == kLongestName;
    if (!name_complete_) record_ += *c;
  }
  if (!line_end) return end;
  end_line(part_offset_ + (line_end + 1 - part_));
  return line_end + 1;
}

const char* SequenceScanner::scan_letters(const char* at, const char* end) {
  const char* stop = at;
  while (stop != end && alphabet_.has(*stop)) ++stop;
  line_letters_ += stop - at;
  if (stop != end) state_ = State::blanks;
  return stop;
}

const char* SequenceScanner::scan_blanks(const char* at, const char* end) {
  while (at != end && is_blank(*at)) ++at;
  if (at == end) return end;
  if (*at != '\n') refuse_letter(*at);
  end_line(part_offset_ + (at + 1 - part_));
  return at + 1;
}

void SequenceScanner::end_line(Index next_line) {
  const bool letters = state_ != State::header;
  state_ = State::line_start;
  if (letters) add_line(next_line - line_offset_);
}

void SequenceScanner::add_line(Index bytes) {
  if (line_letters_ == 0) {
    stripe_open_ = false;
    return;
  }
  if (!in_record_) refuse("a FASTA file starts with a line that starts with '>'");
  const Index letters = line_letters_;
  if (stripe_open_ && letters <= index_.stripes.back().letters_in_line) {
    const Stripe& stripe = index_.stripes.back();
    stripe_open_ = letters == stripe.letters_in_line && bytes == stripe.line;
  } else {
    const bool fits = bytes <= static_cast<Index>(UINT32_MAX);
    index_.stripes.push_back({index_.tokens, line_offset_, fits ? static_cast<std::uint32_t>(letters) : 0,
                              fits ? static_cast<std::uint32_t>(bytes) : 0});
    stripe_open_ = fits;
  }
  index_.tokens += letters;
}

void SequenceScanner::end_record() {
  if (index_.tokens > record_begin_) {
    index_.record_begins.push_back(record_begin_);
    record_begin_ = index_.tokens;
  } else if (in_record_ && empty_records_++ == 0) {
    first_empty_ = quote(record_) + " at line " + std::to_string(record_line_);
  }
}

void SequenceScanner::refuse(const std::string& what, Index column) const {
  std::string where = file_ + ":";
  if (form_ == Form::fasta && in_record_) where += " record " + quote(record_) + ",";
  where += " line " + std::to_string(line_number_);
  if (column > 0) where += ", column " + std::to_string(column);
  throw Error(ErrorCode::data, where + ": " + what);
}

void SequenceScanner::refuse_letter(char found) const {
  const Index column = line_letters_ + 1;
  if (alphabet_.has(found)) refuse("a blank inside the line", column);
  char text[8];
  const auto byte = static_cast<unsigned char>(found);
  std::snprintf(text, sizeof text, byte > ' ' && byte < 0x7f ? "'%c'" : "0x%02x", byte);
  refuse(std::string(text) + (std::isalpha(byte) ? " is no nucleotide" : " is no letter of a sequence"), column);
}

}  // namespace plasmid
