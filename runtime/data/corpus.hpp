#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/base/index.hpp"
#include "runtime/base/recycled.hpp"

namespace plasmid {

enum class Tokenizer : std::uint8_t { byte, nucleotide, bpe };
enum class LowerCase : std::uint8_t { fold, mask };  // mask: read as the base, left out of the loss as a label

struct CorpusOptions {
  std::vector<std::filesystem::path> files = {};
  Tokenizer tokenizer = Tokenizer::byte;
  LowerCase lower_case = LowerCase::fold;     // of nucleotides
  std::filesystem::path cache = {};           // folder for unpacked files; empty: one of the user's own (kept_file.hpp)
  std::string json_field = "text";            // of each object of a JSON Lines file
  std::filesystem::path tokenizer_file = {};  // of Tokenizer::bpe: a Hugging Face tokenizer.json
  std::function<void(const std::string& line)> say = {};  // hears of the progress of long work, where given
};

// All records of all files as ONE line of tokens, in order: a text file is one record, a FASTA file has one a sequence
// (headers and line ends are not tokens), a JSON Lines file one a line. Reads by range and holds no more than it is
// asked for and an index of at most 32 bytes per record: a 3 GB genome costs a read's memory. One thread at a time.
class Corpus {
 public:
  // Tokens as they are given to the model; `counts` false where a token must not count as a label.
  struct Piece {
    RecycledVector<std::int32_t> tokens;
    RecycledVector<std::uint8_t> counts;
  };
  virtual ~Corpus() = default;
  virtual Index size() const = 0;                  // tokens in all
  virtual Piece read(Index begin, Index end) = 0;  // [begin, end) of the line
  // Where records start in [begin, end), ascending.
  virtual std::vector<Index> record_begins(Index begin, Index end) const = 0;
  virtual Index records() const = 0;
  // Bytes of text that the tokens [begin, end) stand for: one a token but for Tokenizer::bpe. Of a text's normal form;
  // a word mark counts as the space that it stands for.
  virtual Index bytes(Index begin, Index end) { return end - begin; }
  virtual int vocabulary() const = 0;                            // 256, or 5 (A C G T N), or the tokenizer's
  virtual const std::vector<std::string>& warnings() const = 0;  // what was left out; one line each
};

// FASTA and JSON Lines by extension (.fa .fasta .fna, .jsonl, also with .gz), anything else is text. Packed files
// (gzip, bgzip) are known by their first bytes. `alphabet.hpp` says which letters a sequence may hold and how they
// read.
//   FASTA, either tokenizer   read once at the start, to index and to check every letter
//   text, BYTE                every byte is a token, line ends too
//   text, NUCLEOTIDE          letters of one record; line ends and blanks before them are not tokens
//   JSON Lines, BYTE          of each line's object the string `json_field`, its escapes decoded to UTF-8
//   JSON Lines, NUCLEOTIDE    the same, letters of one record; blanks and line ends among them are not tokens
//   text or JSON Lines, BPE   what the tokenizer makes of the text, or of each line's; no special token is added
// The texts of JSON Lines are decoded and tokenized once into files of the cache.
// Throws Error{config} for no files, or LowerCase::mask without nucleotides; Error{no_input} for a missing file;
// Error{data} for an empty or damaged one, naming it and where.
std::unique_ptr<Corpus> open_corpus(const CorpusOptions&);

// The vocabulary that a corpus of these options has. Of Tokenizer::bpe, reads the file and throws Error{config} for
// what it asks for and this program does not do, or where the program was built without it; Error{no_input | data}.
int vocabulary_of(Tokenizer, const std::filesystem::path& tokenizer_file = {});

}  // namespace plasmid
