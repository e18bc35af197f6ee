// Turns of small rings whose seconds are worked out by hand: what overlaps, what shows, and by how much.
#include "launcher/planner/ring_time.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "parallel/cp/partition.hpp"

namespace plasmid {
namespace {

constexpr double kFree = std::numeric_limits<double>::infinity();

// Every hop of every rank costs the same; chunks are of 1 byte each, so that a link's rate is its chunks a second.
RingLoad even_load(int ranks, const HopWork& work, const Pattern& pattern = Pattern::full(), Index tokens = 64) {
  const Shards shards = make_shards(1, tokens * ranks, ranks, Layout::contiguous);
  const Index document[] = {0, tokens * ranks};
  TokenMap map;
  map.shards = shards, map.document_begin = document;
  RingLoad load;
  load.hops = ring_schedules(map, pattern, ranks);
  load.chunk_bytes.assign(static_cast<std::size_t>(ranks), 1.0);
  for (const RecycledVector<Hop>& hops : load.hops) {
    load.work.emplace_back();
    for (const Hop& hop : hops) load.work.back().push_back(hop.work ? work : HopWork{});
  }
  return load;
}

Network wire(double seconds_a_chunk, double latency = 0) {
  const Link link{latency, 1 / seconds_a_chunk, 0};
  return {link, link, 1};
}

TEST(RingTime, ARingOfOneComputesOnce) {
  const RingLoad load = even_load(1, {2, 5, 0.25});
  EXPECT_DOUBLE_EQ(forward_seconds(load, wire(1000)), 2);
  EXPECT_DOUBLE_EQ(backward_seconds(load, wire(1000)), 5);
}

TEST(RingTime, ATransferAsLongAsTheHopAddsNothing) {
  for (const int ranks : {2, 3, 4, 8}) {
    const RingLoad load = even_load(ranks, {2, 5, 0});
    EXPECT_DOUBLE_EQ(forward_seconds(load, wire(2)), 2.0 * ranks) << ranks;
    // Backward moves two messages a hop. Half of a rank's own keys' work comes last, and hides the last sums' way home.
    EXPECT_DOUBLE_EQ(backward_seconds(load, wire(2.5)), 5.0 * ranks) << ranks;
  }
}

TEST(RingTime, WhatATransferTakesBeyondTheHopShowsOncePerHop) {
  for (const int ranks : {2, 3, 8}) {
    const RingLoad load = even_load(ranks, {2, 5, 0});
    // All hops but the last wait for the chunk after them.
    EXPECT_DOUBLE_EQ(forward_seconds(load, wire(3)), 3.0 * (ranks - 1) + 2) << ranks;
    EXPECT_DOUBLE_EQ(forward_seconds(load, wire(1, 2)), 3.0 * (ranks - 1) + 2) << ranks;
  }
}

TEST(RingTime, BackwardIsBoundByTwoMessagesAHop) {
  // Three ranks, 4 s a chunk, 1 s a hop. Chunks leave at 0 and 4 and are there at 4 and 8. Hop 1 computes from 4 to 5;
  // its sums follow the second chunk on the wire, 8 to 12. Hop 2 computes from 8 to 9, waits for the sums until 12,
  // adds its own, and they go home until 16.
  const RingLoad load = even_load(3, {1, 1, 0});
  EXPECT_DOUBLE_EQ(backward_seconds(load, wire(4)), 16);
  // The addition comes before the way home.
  EXPECT_DOUBLE_EQ(backward_seconds(even_load(3, {1, 1, 0.5}), wire(4)), 16.5);
  // From there on a further rank adds two messages.
  const double four = backward_seconds(even_load(4, {1, 1, 0}), wire(4));
  EXPECT_DOUBLE_EQ(backward_seconds(even_load(5, {1, 1, 0}), wire(4)) - four, 8);
}

TEST(RingTime, ALateRankDelaysThoseBehindIt) {
  RingLoad load = even_load(4, {1, 1, 0});
  load.work[0][0].forward = 10;
  // Rank 1 computes its own hop, takes rank 0's chunk, which left at once, and waits in hop 1 for what rank 0 passes on
  // only when it is there itself, at 10: 10, then two hops more.
  EXPECT_DOUBLE_EQ(forward_seconds(load, wire(0.5)), 10 + 3);
}

TEST(RingTime, OnlyTheBorderBetweenHostsIsSlow) {
  Network network;
  network.inside = {0, kFree, 0};
  network.between = {0, 1.0 / 3, 0};
  network.ranks_per_host = 2;
  const RingLoad load = even_load(4, {2, 2, 0});
  // Every chunk crosses a border every second hop, and there it takes 3 s beside 2 s of work; two borders at once.
  const double expected = forward_seconds(load, wire(3));
  const double mixed = forward_seconds(load, network);
  EXPECT_LE(mixed, expected);
  EXPECT_GT(mixed, 8);
  network.ranks_per_host = 4;
  EXPECT_DOUBLE_EQ(forward_seconds(load, network), 8);
}

TEST(RingTime, ACoreThatCopiesComputesLater) {
  const Link copies{0, 2, 1};  // half a second a chunk, of either side's core
  const RingLoad load = even_load(2, {2, 2, 0});
  EXPECT_DOUBLE_EQ(forward_seconds(load, {copies, copies, 1}), 4 + 2 * 0.5);  // one chunk out and one in, in one hop
}

TEST(RingTime, PrunedHopsMoveNothing) {
  // A window of one shard: each rank works on its own keys and those of the rank before.
  const RingLoad load = even_load(8, {2, 5, 0}, {63, 0});
  EXPECT_DOUBLE_EQ(forward_seconds(load, wire(1)), 4);
  EXPECT_DOUBLE_EQ(backward_seconds(load, wire(1)), 10);
  EXPECT_DOUBLE_EQ(forward_seconds(load, wire(7)), 7 + 2);
}

TEST(RingTime, NeverShorterOverASlowerLink) {
  for (const int ranks : {2, 5, 16})
    for (const Pattern pattern : {Pattern::full(), Pattern::causal(), Pattern{100, 0}, Pattern{100, 70}}) {
      const RingLoad load = even_load(ranks, {1, 2.5, 0.1}, pattern);
      double forward = 0, backward = 0;
      for (const double seconds : {0.0, 0.3, 0.9, 1.0, 1.1, 2.0, 2.6, 5.0}) {
        const Network network = seconds == 0 ? Network{{0, kFree, 0}, {0, kFree, 0}, 1} : wire(seconds);
        const double f = forward_seconds(load, network), b = backward_seconds(load, network);
        EXPECT_GE(f, forward);
        EXPECT_GE(b, backward);
        forward = f, backward = b;
      }
    }
}

TEST(RingTime, AThousandRanks) {
  const RingLoad load = even_load(1024, {2, 5, 0});
  EXPECT_DOUBLE_EQ(forward_seconds(load, wire(2)), 2048);
  EXPECT_DOUBLE_EQ(backward_seconds(load, wire(2.5)), 5120);
}

}  // namespace
}  // namespace plasmid
