#pragma once
#include <algorithm>
#include <random>
#include <utility>
#include <vector>

#include "tests/support/vector_corpus.hpp"

namespace plasmid {

// Random tokens in [0, below), one in eight of which counts as no label.
class MemoryCorpus final : public test::VectorCorpus {
 public:
  MemoryCorpus(Index size, std::vector<Index> begins, unsigned below = 200) : VectorCorpus(256, std::move(begins)) {
    std::mt19937 random(static_cast<unsigned>(size));
    for (Index i = 0; i < size; ++i) {
      tokens.push_back(static_cast<std::int32_t>(random() % below));
      counts.push_back(random() % 8 != 0);
    }
  }
  Piece read(Index begin, Index end) override {
    asked += end - begin;
    return VectorCorpus::read(begin, end);
  }

  Index record_of(Index token) const { return std::ranges::upper_bound(begins_, token) - begins_.begin() - 1; }
  Index asked = 0;
};

}  // namespace plasmid
