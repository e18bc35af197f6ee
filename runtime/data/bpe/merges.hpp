#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "runtime/data/bpe/definition.hpp"

namespace plasmid::bpe {

struct Token {
  std::int32_t id = 0;
  std::uint32_t bytes = 0;  // of the text that it stands for
};

// Byte-pair encoding of words: starting from single bytes or characters, of all neighbours that a merge joins the one
// of highest priority, leftmost first, until none is left (Sennrich et al. 2016). O(n log n) in a word's length. One
// thread at a time.
class Merges {
 public:
  // `mark`: the character that stands for a space, or empty. Throws Error{data | config} naming `file`.
  Merges(const Model&, const std::string& mark, const std::string& file);

  // Appends the tokens of a word. `whole` false: a part of one, which no token of the vocabulary short-cuts.
  void encode(std::string_view word, bool whole, std::vector<Token>& to);

  // Whether a word may be cut between two neighbours and its parts encoded by themselves, since no token holds both.
  bool may_cut(std::string_view before, std::string_view after) const;

  bool byte_level() const { return byte_level_; }

 private:
  struct Symbol {
    std::int32_t id;
    std::uint32_t bytes;
    std::int64_t previous, next;
  };
  struct Merge {
    std::int32_t rank, id;
  };
  struct Candidate {
    std::int32_t rank, id;
    std::int64_t at;
    bool operator<(const Candidate& other) const {  // a heap's top is the largest
      return rank != other.rank ? rank > other.rank : at > other.at;
    }
  };
  struct TextHash : std::hash<std::string_view> {
    using is_transparent = void;
  };
  using Ids = std::unordered_map<std::string, std::int32_t, TextHash, std::equal_to<>>;

  std::int32_t id_of(std::string_view) const;  // -1: none
  void add_neighbours(std::string_view token);
  void start(std::string_view word);
  void start_unknown(std::string_view character);
  void add(std::int32_t id, std::uint32_t bytes);
  void offer(std::int64_t left);
  void join(const Candidate&);

  bool byte_level_, fuse_unknown_, byte_fallback_, ignore_merges_;
  std::string mark_;
  Ids ids_;
  std::vector<std::int32_t> byte_ids_;  // [256]: of single bytes, or with byte_fallback of <0xNN>
  std::int32_t unknown_ = -1;
  std::unordered_map<std::uint64_t, Merge> merges_;  // by the ids of the two
  std::unordered_set<std::uint64_t> neighbours_;     // characters (or bytes) that some token holds side by side
  std::vector<Symbol> symbols_;
  std::vector<Candidate> heap_;
  bool unknown_waits_ = false;  // the last symbol is an unknown that the next may join
};

// The bytes of the UTF-8 character that starts with `first`.
inline std::size_t character_length(char first) {
  const auto byte = static_cast<unsigned char>(first);
  return byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}

}  // namespace plasmid::bpe
