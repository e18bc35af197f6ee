// What a ring costs: memory that does not grow with it, bytes on the wire, time on a clock that only counts, and
// rounding.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "parallel/comm/self.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/ring_probe.hpp"
#include "tests/support/ring_run.hpp"

namespace plasmid {
namespace {

using test::AttentionCase;
using test::run_ranks;
using test::TokenLine;

constexpr Index kHeads = 4, kKvHeads = 2, kWidth = 16;

struct Shard : test::IdleShard {
  Shard(const TokenLine& line, int rank, bool fused = true) : IdleShard(line, rank, kHeads, kKvHeads, kWidth, fused) {}
};

TokenLine line_of(Index length, Pattern pattern, int ranks, Layout layout) {
  return TokenLine{"", 1, length, pattern, {}, {}, {}}.split(ranks, layout);
}

// Largest scratch peak over the ranks, and the bound, for `tokens` tokens a rank.
std::pair<Index, Index> peak_and_bound(int ranks, Index tokens) {
  const TokenLine line = line_of(tokens * ranks, Pattern::causal(), ranks, Layout::zigzag);
  std::vector<Index> peaks(static_cast<std::size_t>(ranks)), bounds = peaks;
  run_ranks(ranks, [&](Communicator& ring) {
    const auto kernel = make_host_kernel();
    RingAttention attention(ring, *kernel, line.pattern);
    Shard shard(line, ring.rank());
    const RingPlan plan = attention.plan(shard.map);
    shard.forward(attention, plan);
    shard.backward(attention, plan);
    const auto r = static_cast<std::size_t>(ring.rank());
    peaks[r] = shard.scratch.peak_bytes();
    bounds[r] = attention.scratch_bytes(tokens, kHeads, kKvHeads, kWidth);
  });
  return {*std::ranges::max_element(peaks), bounds.front()};
}

TEST(RingCost, ScratchDoesNotGrowWithTheRing) {
  const auto [two, bound_two] = peak_and_bound(2, 64);
  const auto [four, bound_four] = peak_and_bound(4, 64);
  const auto [eight, bound_eight] = peak_and_bound(8, 64);
  EXPECT_LE(two, four);
  EXPECT_EQ(four, eight);
  for (const auto& [peak, bound] : {std::pair{two, bound_two}, {four, bound_four}, {eight, bound_eight}}) {
    EXPECT_LE(peak, bound);
    EXPECT_LE(static_cast<double>(bound), 1.1 * static_cast<double>(peak));
  }
}

TEST(RingCost, ChunkBuffersAreTwoForKeysAndThreeForGradients) {
  const TokenLine line = line_of(8 * 64, Pattern::full(), 8, Layout::contiguous);
  run_ranks(8, [&](Communicator& ring) {
    test::IdleKernel kernel([](const Attend&) {});
    RingAttention attention(ring, kernel, line.pattern);
    Shard shard(line, ring.rank());
    const RingPlan plan = attention.plan(shard.map);
    const Index chunk = arena_bytes({{2, 64, kKvHeads, kWidth}}), delta = arena_bytes({{64, kHeads}});
    shard.forward(attention, plan);
    // A hop's own out and lse, and the running lse in f64.
    EXPECT_EQ(shard.scratch.peak_bytes(), 2 * chunk + arena_bytes({{64, kHeads, kWidth}}) + 3 * delta);
    shard.scratch.restart_peak();
    shard.backward(attention, plan);
    EXPECT_EQ(shard.scratch.peak_bytes(), 5 * chunk + delta);
  });
}

// Documents of very different lengths, where the way home of the gradients and the next hop ask for the same buffer.
TEST(RingCost, IrregularDocumentsNeedNoFurtherBuffer) {
  for (const auto& documents :
       {std::vector<Index>{0, 40, 64, 230, 240, 512}, {0, 1, 130, 131, 500, 512}, {0, 300, 512}})
    for (const Layout layout : {Layout::contiguous, Layout::zigzag}) {
      const TokenLine line = TokenLine{"", 1, 512, Pattern::full(), documents, {}, {}}.split(8, layout);
      run_ranks(8, [&](Communicator& ring) {
        test::IdleKernel kernel([](const Attend&) {});
        RingAttention attention(ring, kernel, line.pattern);
        Shard shard(line, ring.rank());
        const RingPlan plan = attention.plan(shard.map);
        shard.forward(attention, plan);
        shard.backward(attention, plan);
        EXPECT_LE(shard.scratch.peak_bytes(), attention.scratch_bytes(64, kHeads, kKvHeads, kWidth));
      });
    }
}

TEST(RingCost, ARingOfOneNeitherCopiesNorSends) {
  const TokenLine line = line_of(64, Pattern::causal(), 1, Layout::zigzag);
  const auto self = make_self_communicator();
  test::CountingCommunicator ring(*self);
  int calls = 0;
  test::IdleKernel kernel([&](const Attend&) { ++calls; });
  RingAttention attention(ring, kernel, line.pattern);
  Shard shard(line, 0);
  const RingPlan plan = attention.plan(shard.map);
  shard.forward(attention, plan);
  EXPECT_EQ(shard.scratch.peak_bytes(), 0);
  shard.backward(attention, plan);
  EXPECT_EQ(shard.scratch.peak_bytes(), arena_bytes({{64, kHeads}}));
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(ring.sent_bytes, 0);
  EXPECT_EQ(attention.wire_bytes(64, kKvHeads, kWidth), 0);
}

TEST(RingCost, BytesOnTheWireAreThoseOfTheFormulaAndLessWhenPruned) {
  const auto sent = [](Pattern pattern, Layout layout) {
    const TokenLine line = line_of(8 * 64, pattern, 8, layout);
    std::vector<double> bytes(8), formula(8);
    run_ranks(8, [&](Communicator& inner) {
      test::CountingCommunicator ring(inner);
      test::IdleKernel kernel([](const Attend&) {});
      RingAttention attention(ring, kernel, line.pattern);
      Shard shard(line, ring.rank());
      const RingPlan plan = attention.plan(shard.map);
      shard.forward(attention, plan);
      shard.backward(attention, plan);
      const auto r = static_cast<std::size_t>(ring.rank());
      bytes[r] = ring.sent_bytes, formula[r] = attention.wire_bytes(64, kKvHeads, kWidth);
    });
    return std::pair(std::accumulate(bytes.begin(), bytes.end(), 0.0),
                     std::accumulate(formula.begin(), formula.end(), 0.0));
  };
  const auto [full, formula] = sent(Pattern::full(), Layout::contiguous);
  EXPECT_EQ(full, formula);
  EXPECT_EQ(sent(Pattern::causal(), Layout::zigzag).first, formula);
  // One neighbour back: 7 chunks of keys in each pass and 7 of gradients.
  EXPECT_EQ(sent({64, 0}, Layout::contiguous).first, formula * 7 / (8 * 7));
}

// Keys and values in half the bytes, twice; gradients as ever.
TEST(RingCost, TwoByteStorageHalvesChunksAndWhatIsSentOfThem) {
  const TokenLine line = line_of(8 * 64, Pattern::full(), 8, Layout::contiguous);
  run_ranks(8, [&](Communicator& inner) {
    test::CountingCommunicator ring(inner);
    test::IdleKernel kernel([](const Attend&) {});
    RingAttention attention(ring, kernel, line.pattern);
    Shard shard(line, ring.rank());
    const RingPlan plan = attention.plan(shard.map);
    shard.storage = DType::bf16;
    shard.forward(attention, plan);
    const double sent_forward = ring.sent_bytes;
    shard.backward(attention, plan);
    const double chunk = 2 * 64 * kKvHeads * kWidth;  // elements
    EXPECT_EQ(sent_forward, 7 * 2 * chunk);
    EXPECT_EQ(ring.sent_bytes, 7 * (2 * 2 + 4) * chunk);
    EXPECT_EQ(ring.sent_bytes, attention.wire_bytes(64, kKvHeads, kWidth, DType::bf16));
    const Index bound = attention.scratch_bytes(64, kHeads, kKvHeads, kWidth, DType::bf16);
    EXPECT_LE(shard.scratch.peak_bytes(), bound);
    EXPECT_EQ(attention.scratch_bytes(64, kHeads, kKvHeads, kWidth) - bound, 2 * 2 * static_cast<Index>(chunk));
  });
}

// Also where nothing is in flight: a poll tells a watchdog that this rank computes.
TEST(RingCost, KernelsPollOnEveryHop) {
  const TokenLine line = line_of(4 * 16, Pattern::full(), 4, Layout::contiguous);
  run_ranks(4, [&](Communicator& inner) {
    test::CountingCommunicator ring(inner);
    int without_poll = 0;
    test::IdleKernel kernel([&](const Attend& call) { call.poll ? call.poll() : void(++without_poll); });
    RingAttention attention(ring, kernel, line.pattern);
    Shard shard(line, ring.rank());
    const RingPlan plan = attention.plan(shard.map);
    shard.forward(attention, plan);
    EXPECT_EQ(ring.polls, 4);
    shard.backward(attention, plan);
    EXPECT_EQ(ring.polls, 4 + 5);  // backward works on its own keys in two parts
    EXPECT_EQ(without_poll, 0);
  });
}

// Every layer and both passes read the masks that the plan holds; none is made beside them.
TEST(RingCost, PassesBorrowThePlansMasks) {
  const TokenLine line = line_of(4 * 16, Pattern::causal(), 4, Layout::zigzag);
  run_ranks(4, [&](Communicator& ring) {
    std::vector<const MaskPlan*> seen, expected;
    test::IdleKernel kernel([&](const Attend& call) { seen.push_back(&call.mask); });
    RingAttention attention(ring, kernel, line.pattern);
    Shard shard(line, ring.rank());
    const RingPlan plan = attention.plan(shard.map);
    for (int pass = 0; pass < 2; ++pass)
      for (const Hop& hop : plan.hops) expected.push_back(&plan.mask(hop));
    expected.push_back(&plan.mask(plan.hops[0]));  // backward works on its own keys in two parts
    shard.forward(attention, plan);
    shard.backward(attention, plan);
    EXPECT_EQ(seen, expected);
  });
}

// The clock of the slowest rank after each pass, when a hop's work takes 1 in forward and 2.5 in backward (two products
// and five) and a transfer `delay`.
std::pair<double, double> makespan(const TokenLine& line, double delay) {
  const int ranks = static_cast<int>(line.shards.size());
  ThreadWorld world(ranks);
  world.set_exchange_delay(delay);
  double forward = 0, backward = 0;
  run_ranks(world, ranks, [&](Communicator& ring) {
    double hop = 1;
    test::IdleKernel kernel([&](const Attend& call) {
      world.advance_clock(ring.rank(), hop * static_cast<double>(call.q.dim(1)) / kHeads);
    });
    RingAttention attention(ring, kernel, line.pattern);
    Shard shard(line, ring.rank());
    const RingPlan plan = attention.plan(shard.map);
    shard.forward(attention, plan);
    ring.barrier();
    if (ring.rank() == 0) forward = world.clock(0);
    hop = 2.5;
    shard.backward(attention, plan);
    ring.barrier();
    if (ring.rank() == 0) backward = world.clock(0) - forward;
  });
  return {forward, backward};
}

TEST(RingCost, TransfersHideBehindTheWorkOfAHop) {
  for (const int ranks : {2, 3, 4, 8})
    for (const double delay : {0.75, 1.0}) {
      const TokenLine line = line_of(16 * ranks, Pattern::full(), ranks, Layout::zigzag);
      const auto [forward, backward] = makespan(line, delay);
      EXPECT_EQ(forward, ranks);  // one after the other it would be ranks + delay (ranks - 1)
      EXPECT_EQ(backward, 2.5 * ranks);
    }
}

TEST(RingCost, SlowTransfersHideTheWorkInstead) {
  const TokenLine line = line_of(64, Pattern::full(), 4, Layout::zigzag);
  const auto [forward, backward] = makespan(line, 4);
  EXPECT_EQ(forward, 3 * 4 + 1);     // each hop lasts as long as its transfer, the last as its work
  EXPECT_EQ(backward, 4 * 4 + 2.5);  // the last hop hides nothing: its gradients then go home
}

TEST(RingCost, ContiguousKeysAndValuesLeaveFromWhereTheyAre) {
  const TokenLine line = line_of(2 * 64, Pattern::full(), 2, Layout::contiguous);
  const auto peak_of = [&](bool fused) {
    Index peak = 0;
    run_ranks(2, [&](Communicator& ring) {
      test::IdleKernel kernel([](const Attend&) {});
      RingAttention attention(ring, kernel, line.pattern);
      Shard shard(line, ring.rank(), fused);
      shard.forward(attention, attention.plan(shard.map));
      if (ring.rank() == 0) peak = shard.scratch.peak_bytes();
    });
    return peak;
  };
  EXPECT_EQ(peak_of(true) - peak_of(false), arena_bytes({{2, 64, kKvHeads, kWidth}}));
}

struct RelativeErrors {
  double out, lse, dq, dk, dv;
};

// Against f64; also held to the bar that every ring has to meet.
RelativeErrors errors_over(int ranks, const TokenLine& unsplit, const AttentionCase& problem) {
  const auto exact = test::dense_attention<double>(problem);
  const TokenLine line = unsplit.split(ranks, Layout::zigzag);
  test::AttentionResult<float> got;
  run_ranks(ranks, [&](Communicator& ring) {
    const auto kernel = make_host_kernel();
    auto run = test::run_ring(ring, *kernel, line, problem);
    if (ring.rank() == 0) got = std::move(run.result);
  });
  test::expect_close(got, exact, test::dense_attention<float>(problem), 4, std::to_string(ranks) + " ranks");
  const auto relative = [](const std::vector<float>& a, const std::vector<double>& b) {
    double difference = 0, norm = 0;
    for (std::size_t i = 0; i < b.size(); ++i) {
      difference += std::pow(static_cast<double>(a[i]) - b[i], 2);
      norm += b[i] * b[i];
    }
    return std::sqrt(difference / norm);
  };
  return {relative(got.out, exact.out), relative(got.lse, exact.lse), relative(got.dq, exact.dq),
          relative(got.dk, exact.dk), relative(got.dv, exact.dv)};
}

// The sums over 512 rows make the noise of a root mean square 1 / sqrt(2 * 512); three times that is allowed.
TEST(RingCost, RoundingDoesNotGrowFromTwoRanksToSixtyFour) {
  const TokenLine line{"", 1, 512, Pattern::full(), {}, {}, {}};
  const AttentionCase problem = test::problem_of(line, 1, 1, 16, 5);
  const RelativeErrors two = errors_over(2, line, problem), many = errors_over(64, line, problem);
  const double allowed = 1 + 3 / std::sqrt(2.0 * 512);
  EXPECT_LE(many.out, allowed * two.out);
  EXPECT_LE(many.lse, allowed * two.lse);
  EXPECT_LE(many.dq, allowed * two.dq);
  EXPECT_LE(many.dk, allowed * two.dk);
  EXPECT_LE(many.dv, allowed * two.dv);
}

template <class Real>
double norm_of_difference(const std::vector<Real>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < b.size(); ++i) sum += std::pow(static_cast<double>(a[i]) - b[i], 2);
  return std::sqrt(sum);
}

// Stored in two bytes, results are as far from those of the unrounded numbers as exact arithmetic on the rounded ones
// is, whatever the number of hops: to that floor f32 adds no more than its own error, four times that of one rank's
// plain sums.
TEST(RingCost, RoundingOfStorageIsAllThatIsLostFromOneChunkToSixteen) {
  const TokenLine unsplit{"", 1, 512, Pattern::causal(), {}, {}, {}};
  const AttentionCase problem = test::problem_of(unsplit, 2, 1, 16, 5), stored = test::rounded_case(problem);
  const auto exact = test::dense_attention<double>(problem), rounded = test::dense_attention<double>(stored);
  const auto plain = test::dense_attention<float>(stored);
  for (const int ranks : {1, 2, 3, 4, 8, 16}) {
    const TokenLine line = unsplit.split(ranks, Layout::zigzag);
    test::AttentionResult<float> got;
    run_ranks(ranks, [&](Communicator& ring) {
      const auto kernel = make_host_kernel();
      auto run = test::run_ring(ring, *kernel, line, stored);
      if (ring.rank() == 0) got = std::move(run.result);
    });
    const auto compare = [&](const char* name, auto member) {
      const std::vector<double>&without = exact.*member.second, &with = rounded.*member.second;
      const std::vector<float>&found = got.*member.first, &unit = plain.*member.first;
      const double floor = norm_of_difference(with, without), f32 = 4 * norm_of_difference(unit, with);
      const double norm = norm_of_difference(std::vector<double>(with.size(), 0), without);
      EXPECT_NEAR(norm_of_difference(found, without), floor, f32) << name << " of " << ranks;
      EXPECT_LT(f32, floor / 100) << name;
      EXPECT_LT(floor / norm, 0x1p-8) << name;  // a unit in the last place of bf16
      EXPECT_GT(floor / norm, 0x1p-13) << name;
    };
    using Single = test::AttentionResult<float>;
    using Double = test::AttentionResult<double>;
    compare("out", std::pair(&Single::out, &Double::out));
    compare("lse", std::pair(&Single::lse, &Double::lse));
    compare("dq", std::pair(&Single::dq, &Double::dq));
    compare("dk", std::pair(&Single::dk, &Double::dk));
    compare("dv", std::pair(&Single::dv, &Double::dv));
  }
}

}  // namespace
}  // namespace plasmid
