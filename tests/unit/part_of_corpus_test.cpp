#include "runtime/data/part_of_corpus.hpp"

#include <gtest/gtest.h>

#include "tests/support/expect_error.hpp"
#include "tests/support/vector_corpus.hpp"

namespace plasmid {
namespace {

using test::VectorCorpus;

std::shared_ptr<VectorCorpus> three_records() {
  return std::make_shared<VectorCorpus>(std::vector<std::vector<std::int32_t>>{{0, 1, 2, 3}, {4, 5}, {6, 7, 8, 9}}, 10);
}

TEST(PartOfCorpus, ReadsItsTokensByItsOwnPlaces) {
  const auto whole = three_records();
  whole->counts[5] = 0;
  for (Index begin = 0; begin < 10; ++begin)
    for (Index end = begin + 1; end <= 10; ++end) {
      const auto part = part_of(whole, {begin, end});
      ASSERT_EQ(part->size(), end - begin);
      for (Index from = 0; from <= part->size(); ++from)
        for (Index to = from; to <= part->size(); ++to) {
          const Corpus::Piece piece = part->read(from, to), same = whole->read(begin + from, begin + to);
          EXPECT_EQ(piece.tokens, same.tokens);
          EXPECT_EQ(piece.counts, same.counts);
        }
    }
}

TEST(PartOfCorpus, KeepsBordersAndStartsARecordWhereItCutsOne) {
  const auto whole = three_records();
  const auto part = part_of(whole, {2, 8});  // 2 3 | 4 5 | 6 7
  EXPECT_EQ(part->record_begins(0, 6), (std::vector<Index>{0, 2, 4}));
  EXPECT_EQ(part->record_begins(1, 6), (std::vector<Index>{2, 4}));
  EXPECT_EQ(part->record_begins(3, 4), (std::vector<Index>{}));
  EXPECT_EQ(part->record_begins(3, 5), (std::vector<Index>{4}));
  EXPECT_EQ(part->record_begins(0, 0), (std::vector<Index>{}));
  EXPECT_EQ(part->records(), 3);
  EXPECT_EQ(part_of(whole, {4, 6})->record_begins(0, 2), (std::vector<Index>{0})) << "a border that is there once";
  EXPECT_EQ(part_of(whole, {0, 4})->records(), 1) << "the next record's begin is not in it";
  EXPECT_EQ(part->vocabulary(), 10);
  EXPECT_EQ(part->warnings(), std::vector<std::string>());
  EXPECT_EQ(part_of(whole, {0, 4})->warnings(), std::vector<std::string>{"a warning"});
}

TEST(SplitLine, HoldsOutTheLastTokens) {
  EXPECT_EQ(split_line(1000, 0.1).training, (Range{0, 900}));
  EXPECT_EQ(split_line(1000, 0.1).held_out, (Range{900, 1000}));
  EXPECT_EQ(split_line(7, 0.5).held_out, (Range{3, 7}));
  EXPECT_EQ(split_line(Index{3} << 40, 0.25).held_out, (Range{Index{9} << 38, Index{3} << 40}));
  expect_error(
      ErrorCode::config,
      {"data.held_out_fraction: 0.01 x 100 tokens = 1 held out and 99 to train on; each part takes at least 2"},
      [] { split_line(100, 0.01); });
  expect_error(ErrorCode::config, {"0.5 x 3 tokens = 2 held out and 1 to train on"}, [] { split_line(3, 0.5); });
}

TEST(HasLabel, IsATokenThatCountsWithinARecord) {
  const auto corpus = three_records();
  EXPECT_TRUE(has_label(*corpus));
  std::ranges::fill(corpus->counts, std::uint8_t{0});
  EXPECT_FALSE(has_label(*corpus));
  for (const Index first : {0, 4, 6}) corpus->counts[static_cast<std::size_t>(first)] = 1;
  EXPECT_FALSE(has_label(*corpus)) << "nothing predicts the first token of a record";
  corpus->counts[9] = 1;
  EXPECT_TRUE(has_label(*corpus));
  VectorCorpus single({{1}, {2}, {3}}, 10);
  EXPECT_FALSE(has_label(single));
}

TEST(HasLabel, LooksThroughTheWholeLine) {
  VectorCorpus corpus({std::vector<std::int32_t>(200000, 1)}, 10);
  std::ranges::fill(corpus.counts, std::uint8_t{0});
  EXPECT_FALSE(has_label(corpus));
  corpus.counts.back() = 1;
  EXPECT_TRUE(has_label(corpus));
}

}  // namespace
}  // namespace plasmid
