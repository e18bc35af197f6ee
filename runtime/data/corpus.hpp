#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/base/index.hpp"

namespace plasmid {

enum class Tokenizer : std::uint8_t { byte, nucleotide };
enum class LowerCase : std::uint8_t { fold, mask };  // mask: read as the base, left out of the loss as a label

struct CorpusOptions {
  std::vector<std::filesystem::path> files;
  Tokenizer tokenizer = Tokenizer::byte;
  LowerCase lower_case = LowerCase::fold;
  std::filesystem::path
      cache;  // where a plain-gzip file is unpacked once; empty: beside the file, else a temporary folder
};

// All records of all files as ONE line of tokens, in order: a text file is one record, a FASTA file has one a sequence
// (headers are not tokens). Reads by range and holds no more than it is asked for: a 3 GB genome costs a read's memory.
class Corpus {
 public:
  // Tokens as they are given to the model; `counts` false where a token must not count as a label.
  struct Piece {
    std::vector<std::int32_t> tokens;
    std::vector<std::uint8_t> counts;
  };
  virtual ~Corpus() = default;
  virtual Index size() const = 0;                  // tokens in all
  virtual Piece read(Index begin, Index end) = 0;  // [begin, end) of the line
  virtual std::vector<Index> record_begins(Index begin,
                                           Index end) const = 0;  // records that start in [begin, end), ascending
  virtual Index records() const = 0;
  virtual int vocabulary() const = 0;  // 256, or 5 (A C G T N)
};

// FASTA by extension (.fa .fasta .fna, also with .gz), anything else is text. Throws Error{no_input} for a missing
// file, Error{data} for an empty or damaged one, naming it and where.
std::unique_ptr<Corpus> open_corpus(const CorpusOptions&);

}  // namespace plasmid
