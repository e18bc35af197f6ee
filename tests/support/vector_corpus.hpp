#pragma once
#include <string>
#include <utility>
#include <vector>

#include "runtime/data/corpus.hpp"

namespace plasmid::test {

// A corpus that is written out in a test: its records, one after another.
class VectorCorpus : public Corpus {
 public:
  VectorCorpus(const std::vector<std::vector<std::int32_t>>& records, int vocabulary) : vocabulary_(vocabulary) {
    for (const auto& record : records) {
      begins_.push_back(size());
      tokens.insert(tokens.end(), record.begin(), record.end());
    }
    counts.assign(tokens.size(), 1);
  }
  Index size() const override { return static_cast<Index>(tokens.size()); }
  Piece read(Index begin, Index end) override {
    return {{tokens.begin() + begin, tokens.begin() + end}, {counts.begin() + begin, counts.begin() + end}};
  }
  std::vector<Index> record_begins(Index begin, Index end) const override {
    std::vector<Index> found;
    for (const Index at : begins_)
      if (begin <= at && at < end) found.push_back(at);
    return found;
  }
  Index records() const override { return static_cast<Index>(begins_.size()); }
  int vocabulary() const override { return vocabulary_; }
  const std::vector<std::string>& warnings() const override { return warnings_; }

  std::vector<std::int32_t> tokens;
  std::vector<std::uint8_t> counts;

 protected:
  VectorCorpus(int vocabulary, std::vector<Index> begins) : begins_(std::move(begins)), vocabulary_(vocabulary) {}
  std::vector<Index> begins_;

 private:
  int vocabulary_;
  std::vector<std::string> warnings_{"a warning"};
};

}  // namespace plasmid::test
