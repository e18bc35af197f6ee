#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "runtime/base/index.hpp"
#include "runtime/tensor/view.hpp"

namespace plasmid {

// What travels with the tokens: data, not ranks. A batch is ONE line of global token indices [0, batch * length):
// sample after sample, document after document; a sample border is a document border, so no kernel knows of batches.
// Each holder owns ascending, disjoint ranges of that line and keeps them in that order, hence an interval of the line
// is an interval of every holder's local indices. All views and spans are borrowed for one step.
struct TokenMap {
  ConstView position;                          // i32 [tokens], from 0 in each document
  ConstView document;                          // i32 [tokens], index into document_begin
  ConstView sample;                            // i32 [tokens], of the whole job's batch
  std::span<const std::vector<Range>> shards;  // every holder's ranges; one holder: {{0, total}}
  Index shard = 0;                             // which of them is here
  std::span<const Index> document_begin;       // [documents + 1], ascending from 0 to the line's length
  std::span<const std::uint8_t> key_valid;     // [line's length], 0 = padding; empty: all valid
  Index first = 0;                             // of the line's tokens in the whole job's batch; keys the random numbers

  std::span<const Range> owned() const { return shards[static_cast<std::size_t>(shard)]; }
  Index tokens() const { return position.count(); }
  Index total() const { return document_begin.empty() ? 0 : document_begin.back(); }
};

// The tokens at local places `rows` of a map, as one that their only holder would have: for what treats every token
// alone. The map borrows `shards`.
struct TokenPart {
  TokenPart(const TokenMap&, Range rows);
  TokenPart(const TokenPart&) = delete;
  TokenPart& operator=(const TokenPart&) = delete;
  ~TokenPart();
  std::vector<std::vector<Range>> shards;
  TokenMap map;
};

}  // namespace plasmid
