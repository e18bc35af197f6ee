#pragma once
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/data/alphabet.hpp"
#include "runtime/data/cache.hpp"
#include "runtime/data/corpus.hpp"

namespace plasmid {

// One file of a corpus as a line of tokens.
class Source {
 public:
  virtual ~Source() = default;
  virtual Index size() const = 0;                                           // tokens, at least one
  virtual void read(Index begin, Index end, Corpus::Piece& append_to) = 0;  // tokens [begin, end)
  virtual Index bytes(Index begin, Index end) { return end - begin; }       // of text that the tokens stand for
  virtual std::span<const Index> record_begins() const = 0;                 // ascending from 0
};

// What each opener throws and leaves out is told at open_corpus; lines on what was left out go to `warnings`. The
// alphabet is borrowed.
std::unique_ptr<Source> open_text(const std::filesystem::path&, const Cache& cache);
std::unique_ptr<Source> open_sequence(const std::filesystem::path&, const Cache& cache, const Alphabet&,
                                      std::vector<std::string>& warnings);

// `letters` null: all bytes of the texts are tokens. Else they are sequences.
std::unique_ptr<Source> open_json_lines(const std::filesystem::path&, const Cache& cache, const std::string& field,
                                        const Alphabet* letters, std::vector<std::string>& warnings);

}  // namespace plasmid
