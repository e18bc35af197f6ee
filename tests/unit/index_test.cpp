#include "runtime/base/index.hpp"

#include <gtest/gtest.h>

#include <cstdint>

namespace plasmid {
namespace {

TEST(Index, CeilDivRoundsUpWithoutOverflow) {
  EXPECT_EQ(ceil_div(0, 7), 0);
  EXPECT_EQ(ceil_div(1, 7), 1);
  EXPECT_EQ(ceil_div(7, 7), 1);
  EXPECT_EQ(ceil_div(8, 7), 2);
  EXPECT_EQ(ceil_div(-8, 7), -1);
  EXPECT_EQ(ceil_div(INT64_MAX, 2), INT64_MAX / 2 + 1);
  EXPECT_EQ(ceil_div(INT64_MAX, INT64_MAX), 1);
  EXPECT_EQ(ceil_div(INT64_MAX - 1, INT64_MAX), 1);
}

}  // namespace
}  // namespace plasmid
