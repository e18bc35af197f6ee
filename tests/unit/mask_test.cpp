// plan_mask against the rule itself, pair by pair, for every way the line is cut and held.
#include "attention/mask/mask.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "parallel/cp/partition.hpp"

namespace plasmid {
namespace {

struct Line {  // a batch line and who holds it
  std::vector<Index> document_begin;
  std::vector<std::uint8_t> key_valid;
  Shards shards;
  TokenMap map() const {
    TokenMap map;
    map.shards = shards, map.document_begin = document_begin, map.key_valid = key_valid;
    return map;
  }
};

bool rule(const Line& line, const Pattern& pattern, Index query, Index key) {
  const auto document = [&](Index token) {
    return std::ranges::upper_bound(line.document_begin, token) - line.document_begin.begin();
  };
  const bool valid = line.key_valid.empty() || line.key_valid[static_cast<std::size_t>(key)] != 0;
  return document(query) == document(key) && key >= query - pattern.left && key <= query + pattern.right && valid;
}

void expect_rule(const Line& line, const Pattern& pattern) {
  const TokenMap map = line.map();
  Index seen = 0;
  for (std::size_t a = 0; a < line.shards.size(); ++a)
    for (std::size_t b = 0; b < line.shards.size(); ++b) {
      const LocalIndex queries(line.shards[a]), keys(line.shards[b]);
      const MaskPlan plan = plan_mask(map, static_cast<Index>(a), static_cast<Index>(b), pattern);
      ASSERT_EQ(plan.queries, queries.size());
      ASSERT_EQ(plan.keys, keys.size());
      ASSERT_EQ(static_cast<Index>(plan.rows.size()), plan.queries);
      Index pairs = 0;
      for (Index i = 0; i < plan.queries; ++i)
        for (Index j = 0; j < plan.keys; ++j) {
          const bool wanted = rule(line, pattern, queries.global(i), keys.global(j));
          ASSERT_EQ(plan.allows(i, j), wanted) << "token " << queries.global(i) << " to " << keys.global(j);
          pairs += wanted;
        }
      EXPECT_EQ(plan.pairs(), pairs);
      // Padding may leave a plan that is not empty and yet has no pair; the reverse must not be.
      EXPECT_TRUE(line.key_valid.empty() ? plan.empty() == (pairs == 0) : !plan.empty() || pairs == 0)
          << a << " to " << b;
      seen += pairs;
    }
  EXPECT_TRUE(seen >= line.document_begin.back() || !line.key_valid.empty()) << "a token sees itself";
}

const Pattern kPatterns[] = {Pattern::full(), Pattern::causal(),       {4, 0}, {0, 0}, {7, 3},
                             {0, 1000},       {Pattern::kUnlimited, 2}};

std::vector<std::uint8_t> padding(Index length, Index from, Index to) {
  std::vector<std::uint8_t> valid(static_cast<std::size_t>(length), 1);
  std::fill(valid.begin() + from, valid.begin() + to, std::uint8_t{0});
  return valid;
}

TEST(PlanMask, FollowsTheRuleForEveryPartition) {
  for (const Layout layout : {Layout::contiguous, Layout::zigzag})
    for (const int holders : {1, 2, 3, 4, 8})
      for (const Index length : {1, 5, 16, 37})
        for (const Pattern& pattern : kPatterns)
          expect_rule({{0, length}, {}, make_shards(1, length, holders, layout)}, pattern);
}

TEST(PlanMask, KeepsDocumentsAndSamplesApart) {
  for (const Layout layout : {Layout::contiguous, Layout::zigzag})
    for (const int holders : {1, 2, 3, 8})
      for (const Pattern& pattern : kPatterns)  // two samples of 21 tokens; documents from one token on
        expect_rule({{0, 1, 9, 10, 21, 30, 42}, {}, make_shards(2, 21, holders, layout)}, pattern);
}

TEST(PlanMask, LeavesPaddingOut) {
  for (const int holders : {1, 2, 4})
    for (const Pattern& pattern : kPatterns) {
      expect_rule({{0, 12, 30}, padding(30, 25, 30), make_shards(1, 30, holders, Layout::zigzag)}, pattern);
      expect_rule({{0, 12, 30}, padding(30, 0, 30), make_shards(1, 30, holders, Layout::contiguous)}, pattern);
    }
}

TEST(PlanMask, UnevenShards) {
  const Shards shards = {{{0, 1}, {20, 33}}, {}, {{1, 20}}, {{33, 34}, {35, 40}}, {{34, 35}}};
  for (const Pattern& pattern : kPatterns) expect_rule({{0, 18, 34, 40}, {}, shards}, pattern);
}

TEST(PlanMask, EmptyLine) { expect_rule({{0}, {}, make_shards(1, 0, 2, Layout::zigzag)}, Pattern::causal()); }

TEST(PlanMask, DropsValidityThatSaysNothing) {
  const Line line{{0, 8}, padding(8, 6, 8), make_shards(1, 8, 2, Layout::contiguous)};
  EXPECT_TRUE(plan_mask(line.map(), 1, 0, Pattern::full()).key_valid.empty());
  EXPECT_FALSE(plan_mask(line.map(), 0, 1, Pattern::full()).key_valid.empty());
}

TEST(MaskPlan, TilesNarrowTheSpans) {
  MaskPlan plan;
  plan.queries = 5, plan.keys = 7, plan.rows.assign(5, {1, 6});
  plan.tile = 2, plan.tiles = {{0, 0}, {0, 3}, {2, 1}};
  for (Index i = 0; i < 5; ++i)
    for (Index j = 0; j < 7; ++j) {
      const bool live = (i < 2 && (j < 2 || j == 6)) || (i == 4 && (j == 2 || j == 3));
      EXPECT_EQ(plan.allows(i, j), live && j >= 1 && j < 6) << i << ", " << j;
    }
}

}  // namespace
}  // namespace plasmid
