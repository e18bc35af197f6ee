#pragma once
#include <string>
#include <vector>

#include "attention/mask/mask.hpp"
#include "parallel/cp/partition.hpp"

namespace plasmid::test {

// A batch line and what attention over it may see; owns what the TokenMaps made of it borrow.
struct TokenLine {
  std::string name;
  Index samples = 1, length = 0;
  Pattern pattern = Pattern::causal();
  std::vector<Index> document_begin;  // empty: one document a sample
  std::vector<std::uint8_t> key_valid;
  Shards shards;  // as split() left them

  Index total() const { return samples * length; }
  TokenLine split(int holders, Layout) const;
  TokenMap map(int shard) const;  // without the views of tokens, which attention does not read
};

// Causal and full, windows, documents, padding, several samples, lengths that nothing divides or that are shorter than
// the number of holders, rows and whole lines without a key.
std::vector<TokenLine> token_lines();

}  // namespace plasmid::test
