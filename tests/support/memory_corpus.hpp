#pragma once
#include <algorithm>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "runtime/data/corpus.hpp"

namespace plasmid {

// Random tokens in [0, below), one in eight of which counts as no label.
class MemoryCorpus final : public Corpus {
 public:
  MemoryCorpus(Index size, std::vector<Index> begins, unsigned below = 200) : begins_(std::move(begins)) {
    std::mt19937 random(static_cast<unsigned>(size));
    for (Index i = 0; i < size; ++i) {
      all_.tokens.push_back(static_cast<std::int32_t>(random() % below));
      all_.counts.push_back(random() % 8 != 0);
    }
  }
  Index size() const override { return static_cast<Index>(all_.tokens.size()); }
  Piece read(Index begin, Index end) override {
    asked += end - begin;
    return {{all_.tokens.begin() + begin, all_.tokens.begin() + end},
            {all_.counts.begin() + begin, all_.counts.begin() + end}};
  }
  std::vector<Index> record_begins(Index begin, Index end) const override {
    std::vector<Index> found;
    for (const Index at : begins_)
      if (begin <= at && at < end) found.push_back(at);
    return found;
  }
  Index records() const override { return static_cast<Index>(begins_.size()); }
  int vocabulary() const override { return 256; }
  const std::vector<std::string>& warnings() const override { return warnings_; }

  Index record_of(Index token) const { return std::ranges::upper_bound(begins_, token) - begins_.begin() - 1; }
  const Piece& all() const { return all_; }
  Index asked = 0;

 private:
  Piece all_;
  std::vector<Index> begins_;
  std::vector<std::string> warnings_;
};

}  // namespace plasmid
