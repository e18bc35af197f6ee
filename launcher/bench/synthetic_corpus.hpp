#pragma once
#include <string>
#include <vector>

#include "runtime/data/corpus.hpp"

namespace plasmid::bench {

// One record of bytes by a rule that a model can learn: a function of the place alone.
class SyntheticCorpus final : public Corpus {
 public:
  explicit SyntheticCorpus(Index size) : size_(size) {}
  Index size() const override { return size_; }
  Piece read(Index begin, Index end) override {
    Piece piece;
    for (Index i = begin; i < end; ++i) {
      const auto place = static_cast<std::uint64_t>(i);
      piece.tokens.push_back(static_cast<std::int32_t>((place * place / 7 + place % 11) % 256));
    }
    piece.counts.assign(piece.tokens.size(), 1);
    return piece;
  }
  std::vector<Index> record_begins(Index begin, Index end) const override {
    return begin <= 0 && 0 < end ? std::vector<Index>{0} : std::vector<Index>{};
  }
  Index records() const override { return 1; }
  int vocabulary() const override { return 256; }
  const std::vector<std::string>& warnings() const override { return none_; }

 private:
  Index size_;
  std::vector<std::string> none_;
};

}  // namespace plasmid::bench
