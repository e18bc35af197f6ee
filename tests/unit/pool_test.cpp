#include "parallel/comm/pool.hpp"

#include <gtest/gtest.h>

#include <set>

namespace plasmid {
namespace {

TEST(Pool, MakesNoMoreThanAreInUseAtOnce) {
  Pool<int> pool;
  std::set<int*> made;
  for (int round = 0; round < 5; ++round) {
    int &a = pool.take(), &b = pool.take();
    EXPECT_NE(&a, &b);
    made.insert({&a, &b});
    pool.give(a);
    int& c = pool.take();
    EXPECT_EQ(&c, &a);
    pool.give(c), pool.give(b);
  }
  EXPECT_EQ(made.size(), 2u);
}

}  // namespace
}  // namespace plasmid
