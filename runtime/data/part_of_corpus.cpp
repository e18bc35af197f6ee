#include "runtime/data/part_of_corpus.hpp"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "runtime/base/check.hpp"
#include "runtime/base/error.hpp"

namespace plasmid {
namespace {

class PartOfCorpus final : public Corpus {
 public:
  PartOfCorpus(std::shared_ptr<Corpus> whole, Range part) : whole_(std::move(whole)), part_(part) {
    PLASMID_CHECK(0 <= part.begin && part.begin < part.end && part.end <= whole_->size())
        << "[" << part.begin << ", " << part.end << ") of " << whole_->size();
  }

  Index size() const override { return part_.size(); }
  int vocabulary() const override { return whole_->vocabulary(); }
  Index records() const override { return static_cast<Index>(record_begins(0, size()).size()); }
  const std::vector<std::string>& warnings() const override { return part_.begin == 0 ? whole_->warnings() : none_; }

  Piece read(Index begin, Index end) override {
    PLASMID_CHECK(0 <= begin && begin <= end && end <= size()) << "[" << begin << ", " << end << ") of " << size();
    return whole_->read(part_.begin + begin, part_.begin + end);
  }

  Index bytes(Index begin, Index end) override { return whole_->bytes(part_.begin + begin, part_.begin + end); }

  std::vector<Index> record_begins(Index begin, Index end) const override {
    end = std::min(end, size());
    std::vector<Index> found;
    if (begin >= end) return found;
    if (begin == 0) found.push_back(0);
    for (const Index at : whole_->record_begins(part_.begin + std::max<Index>(begin, 1), part_.begin + end))
      found.push_back(at - part_.begin);
    return found;
  }

 private:
  std::shared_ptr<Corpus> whole_;
  Range part_;
  std::vector<std::string> none_;
};

}  // namespace

std::unique_ptr<Corpus> part_of(std::shared_ptr<Corpus> whole, Range part) {
  return std::make_unique<PartOfCorpus>(std::move(whole), part);
}

Split split_line(Index tokens, double held_out_fraction) {
  const auto held = static_cast<Index>(std::llround(held_out_fraction * static_cast<double>(tokens)));
  if (held < 2 || tokens - held < 2) {
    std::ostringstream text;
    text << "data.held_out_fraction: " << held_out_fraction << " x " << tokens << " tokens = " << held
         << " held out and " << tokens - held << " to train on; each part takes at least 2";
    throw Error(ErrorCode::config, text.str());
  }
  return {{0, tokens - held}, {tokens - held, tokens}};
}

bool has_label(Corpus& corpus) {
  constexpr Index kChunk = Index{1} << 16;
  for (Index begin = 1; begin < corpus.size(); begin += kChunk) {
    const Index end = std::min(begin + kChunk, corpus.size());
    Corpus::Piece piece = corpus.read(begin, end);
    for (const Index record : corpus.record_begins(begin, end))
      piece.counts[static_cast<std::size_t>(record - begin)] = 0;
    if (std::ranges::count(piece.counts, 0) < end - begin) return true;
  }
  return false;
}

}  // namespace plasmid
