#include "runtime/tensor/arena.hpp"

#include <gtest/gtest.h>

#include <utility>

#include "runtime/base/error.hpp"

namespace plasmid {
namespace {

TEST(StackArena, ReusesItsBlocksAndCountsWholeLines) {
  Ledger ledger;
  Arena arena(Arena::Kind::stack, ledger);
  for (int step = 0; step < 3; ++step) {
    Buffer a = arena.take({{3, 5}}, "a"), b = arena.take({{1 << 20}}, "b"), c = arena.take({{0}}, "c");
    EXPECT_EQ(arena.live_bytes(), 64 + (4 << 20));
    c.reset(), b.reset(), a.reset();
    EXPECT_EQ(arena.allocations(), 3) << "later steps ask the machine for nothing";
  }
  EXPECT_EQ(arena.live_bytes(), 0);
  EXPECT_EQ(ledger.live_bytes(), 0);
  EXPECT_EQ(ledger.peak_bytes(), 64 + (4 << 20));
}

TEST(StackArenaDeathTest, RefusesAnotherOrder) {
  Ledger ledger;
  Arena arena(Arena::Kind::stack, ledger);
  Buffer a = arena.take({{8}}, "first"), b = arena.take({{8}}, "second");
  EXPECT_DEATH(a.reset(), "out of order");
  b.reset();
}

TEST(PoolArena, GivesBackInAnyOrderAndReuses) {
  Ledger ledger;
  Arena arena(Arena::Kind::pool, ledger);
  Buffer a = arena.take({{1000}}, "a"), b = arena.take({{1000}}, "b");
  const std::byte* place = a.view().data;
  a.reset();
  Buffer c = arena.take({{900}}, "c");
  EXPECT_EQ(c.view().data, place);
  Buffer moved = std::move(b);
  EXPECT_FALSE(b);
  EXPECT_EQ(ledger.live_bytes("b"), 4032);
}

TEST(PoolArena, NamesTheLargestTagsWhenTheBudgetIsSpent) {
  Ledger ledger;
  Arena arena(Arena::Kind::pool, ledger, 4096);
  Buffer held = arena.take({{512}}, "weights");
  try {
    Buffer more = arena.take({{1024}}, "ring.kv");
    FAIL() << "took more than the budget";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::memory);
    EXPECT_EQ(
        std::string(error.what()),
        "out of memory: ring.kv wants 4.0 KiB beside 2.0 KiB held; the budget is 4.0 KiB; largest: weights 2.0 KiB");
  }
}

TEST(View, SplitsTheLastDimOfASlice) {
  std::vector<float> numbers(4 * 6);
  View whole(reinterpret_cast<std::byte*>(numbers.data()), {{4, 6}});
  const View columns = whole.slice(1, 2, 6).reshape({4, 2, 2});
  EXPECT_EQ(columns.step(0), 6);
  EXPECT_EQ(columns.ptr<float>(), numbers.data() + 2);
  EXPECT_FALSE(columns.contiguous());
}

}  // namespace
}  // namespace plasmid
