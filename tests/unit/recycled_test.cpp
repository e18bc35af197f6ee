#include "runtime/base/recycled.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <new>
#include <thread>

namespace plasmid {
namespace {

#if !defined(__SANITIZE_ADDRESS__)
TEST(Recycled, ABlockServesTheNextRequestOfItsSize) {
  void* const first = take_recycled(1000);
  void* const second = take_recycled(1000);
  EXPECT_NE(first, second);
  give_recycled(first, 1000);
  EXPECT_EQ(take_recycled(1024), first);
  give_recycled(first, 1024);
  void* const larger = take_recycled(1025);
  EXPECT_NE(larger, first);
  give_recycled(larger, 1025), give_recycled(second, 1000);
}
#endif

TEST(Recycled, BlocksLieOnLines) {
  for (const std::size_t bytes :
       {std::size_t{0}, std::size_t{1}, std::size_t{64}, std::size_t{65}, std::size_t{70000}}) {
    void* const block = take_recycled(bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % 64, 0u) << bytes;
    give_recycled(block, bytes);
  }
}

TEST(Recycled, AVectorGrowsAndKeepsItsElements) {
  RecycledVector<int> values;
  for (int i = 0; i < 10'000; ++i) values.push_back(i);
  for (int i = 0; i < 10'000; ++i) ASSERT_EQ(values[static_cast<std::size_t>(i)], i);
  const RecycledVector<int> copy = values;
  values.assign(10, -1);
  EXPECT_EQ(copy.back(), 9'999);
}

TEST(Recycled, ABlockMayBeGivenBackOnAnotherThread) {
  RecycledVector<int> values(100, 7);
  std::thread([moved = std::move(values)] { EXPECT_EQ(moved[99], 7); }).join();
}

TEST(Recycled, ABlockOfNoPossibleSizeIsRefused) {
  EXPECT_THROW(take_recycled(std::numeric_limits<std::size_t>::max()), std::bad_alloc);
}

}  // namespace
}  // namespace plasmid
