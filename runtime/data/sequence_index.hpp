#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "runtime/base/index.hpp"
#include "runtime/data/alphabet.hpp"
#include "runtime/data/bytes.hpp"

namespace plasmid {

// Lines of one record that are equally long, so that a token's byte is found by arithmetic: what a .fai index keeps of
// a record. Here lines may change their length within a record (a new stripe), and records may have equal names.
struct Stripe {
  Index token = 0;                              // its first, of the file
  Index offset = 0;                             // that letter's byte
  std::uint32_t letters_in_line = 0, line = 0;  // of each line but the last: letters; bytes with the line's end.
                                                // 0: one line
};

struct SequenceIndex {
  std::vector<Stripe> stripes;       // ascending
  std::vector<Index> record_begins;  // tokens; no record is empty
  Index tokens = 0;
  std::vector<std::string> warnings;

  std::size_t stripe_of(Index token) const;
  Index stripe_end(std::size_t stripe) const;              // token
  Index offset_of(std::size_t stripe, Index token) const;  // byte
};

// Reads a file's bytes once, in order and in parts of any size, and proves them well-formed:
//   fasta   a line that starts with '>' opens a record, named by its first word; every other line holds letters
//   plain   all lines are letters of one record
// Lines end in LF or CRLF, the last perhaps in nothing; blanks before a line's end and empty lines are passed over; a
// line may be of any length. An empty record is left out and named in `warnings`. Throws Error{data} naming file,
// record, line, column and what stands there.
class SequenceScanner {
 public:
  enum class Form : std::uint8_t { fasta, plain };
  SequenceScanner(std::string file, Form, const Alphabet&);  // borrows the alphabet
  void scan(std::span<const char> part);
  SequenceIndex finish();

 private:
  enum class State : std::uint8_t { line_start, header, letters, blanks };

  const char* scan_header(const char* at, const char* end);
  const char* scan_letters(const char* at, const char* end);
  const char* scan_blanks(const char* at, const char* end);
  void start_line(Index offset, char first);
  void end_line(Index next_line);
  void add_line(Index bytes);
  void end_record();
  [[noreturn]] void refuse(const std::string& what, Index column = 0) const;
  [[noreturn]] void refuse_letter(char found) const;

  std::string file_;
  Form form_;
  const Alphabet& alphabet_;
  SequenceIndex index_;
  State state_ = State::line_start;
  const char* part_ = nullptr;  // the part being read, and its place in the file
  Index part_offset_ = 0;

  Index line_number_ = 0, line_offset_ = 0, line_letters_ = 0;  // the current line: from 1, its first byte, so far
  bool stripe_open_ = false;                                    // the next line may continue it

  bool in_record_ = false, name_complete_ = false;
  std::string record_;  // the current record's name, cut
  Index record_line_ = 0, record_begin_ = 0;
  Index empty_records_ = 0;
  std::string first_empty_;
};

}  // namespace plasmid
