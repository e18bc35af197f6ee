// Counted pairs against the rows of mask plans.
#include "launcher/planner/pairs.hpp"

#include <gtest/gtest.h>

#include "parallel/cp/partition.hpp"

namespace plasmid {
namespace {

TEST(Pairs, AreThoseOfTheMaskPlan) {
  const Pattern patterns[] = {Pattern::full(), Pattern::causal(), {7, 0}, {0, 0}, {3, 11}, {100, 0}, {-4, 9}, {9, -4}};
  for (const Layout layout : {Layout::contiguous, Layout::zigzag})
    for (const int holders : {1, 2, 3, 8})
      for (const Index length : {1, 5, 61, 200})
        for (const Pattern& pattern : patterns) {
          const Shards shards = make_shards(1, length, holders, layout);
          const Index document[] = {0, length};
          TokenMap map;
          map.shards = shards, map.document_begin = document;
          for (int query = 0; query < holders; ++query)
            for (int key = 0; key < holders; ++key)
              EXPECT_EQ(
                  count_pairs(shards[static_cast<std::size_t>(query)], shards[static_cast<std::size_t>(key)], pattern),
                  static_cast<double>(plan_mask(map, query, key, pattern).pairs()))
                  << length << " tokens over " << holders << ", " << query << " with " << key << ", left "
                  << pattern.left << ", right " << pattern.right;
        }
}

TEST(Pairs, AWholeGenomeUnderACausalMask) {
  const Index length = Index{1} << 32;
  const Range whole[] = {{0, length}};
  const double n = static_cast<double>(length);
  EXPECT_DOUBLE_EQ(count_pairs(whole, whole, Pattern::causal()), n * (n + 1) / 2);
}

}  // namespace
}  // namespace plasmid
