// What the ring hides: transfers delayed by a known number of polls, on a clock that only polls move.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "tests/support/delayed_communicator.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/ring_probe.hpp"
#include "tests/support/ring_run.hpp"

namespace plasmid {
namespace {

using test::AttentionCase;
using test::DelayedCommunicator;
using test::IdleKernel;
using test::run_ranks;
using test::TokenLine;

constexpr Index kHeads = 4, kWidth = 8;

struct Ring {
  const char* name;
  Pattern pattern;
  Layout layout;
};
const Ring kRings[] = {{"causal zigzag", Pattern::causal(), Layout::zigzag},
                       {"full", Pattern::full(), Layout::contiguous}};
constexpr int kRanks[] = {2, 3, 4, 8};

TokenLine line_of(const Ring& ring, Index tokens_a_rank, int ranks) {
  return TokenLine{"", 1, tokens_a_rank * ranks, ring.pattern, {}, {}, {}}.split(ranks, ring.layout);
}

// A kernel's own polls, counted.
class PollingKernel final : public AttentionKernel {
 public:
  PollingKernel(AttentionKernel& inner, std::function<void()> poll) : inner_(inner), poll_(std::move(poll)) {}
  void forward(const Attend& call, View out, View lse, Arena& scratch) override {
    inner_.forward(polled(call), out, lse, scratch);
  }
  void backward(const Attend& call, ConstView lse, ConstView delta, ConstView dout, View dq, View dk, View dv,
                Arena& scratch) override {
    inner_.backward(polled(call), lse, delta, dout, dq, dk, dv, scratch);
  }
  Index scratch_bytes(Index queries, Index keys, Index heads, Index kv_heads, Index d) const override {
    return inner_.scratch_bytes(queries, keys, heads, kv_heads, d);
  }

 private:
  Attend polled(Attend call) const {
    call.poll = poll_;
    return call;
  }
  AttentionKernel& inner_;
  std::function<void()> poll_;
};

struct Exposed {  // ticks in waits, by rank
  std::vector<Index> forward, backward;
};

// A hop of all heads polls `forward_ticks` times in forward and `backward_ticks` in backward.
Exposed exposed_by(const Ring& kind, int ranks, Index forward_ticks, Index backward_ticks, Index delay) {
  const TokenLine line = line_of(kind, 4, ranks);
  Exposed exposed{std::vector<Index>(static_cast<std::size_t>(ranks)), {}};
  exposed.backward = exposed.forward;
  run_ranks(ranks, [&](Communicator& inner) {
    DelayedCommunicator ring(inner, delay);
    Index hop_ticks = forward_ticks;
    IdleKernel kernel([&](const Attend& call) {
      for (Index tick = 0; tick < hop_ticks * call.q.dim(1) / kHeads; ++tick) call.poll();
    });
    RingAttention attention(ring, kernel, line.pattern);
    test::IdleShard shard(line, ring.rank(), kHeads, kHeads, kWidth);
    const RingPlan plan = attention.plan(shard.map);
    const auto me = static_cast<std::size_t>(ring.rank());
    shard.forward(attention, plan);
    exposed.forward[me] = ring.exposed;
    hop_ticks = backward_ticks;
    shard.backward(attention, plan);
    exposed.backward[me] = ring.exposed - exposed.forward[me];
  });
  return exposed;
}

std::vector<Index> on_all(int ranks, Index ticks) { return std::vector<Index>(static_cast<std::size_t>(ranks), ticks); }

// Two products a tile in forward, five in backward.
TEST(RingOverlap, AHopUpToTheTileTimeAddsNothing) {
  constexpr Index forward_ticks = 8, backward_ticks = 20;
  for (const Ring& ring : kRings)
    for (const int ranks : kRanks)
      for (Index delay = 0; delay <= forward_ticks; ++delay) {
        const Exposed exposed = exposed_by(ring, ranks, forward_ticks, backward_ticks, delay);
        EXPECT_EQ(exposed.forward, on_all(ranks, 0)) << ring.name << ", " << ranks << " ranks, delay " << delay;
        EXPECT_EQ(exposed.backward, on_all(ranks, 0)) << ring.name << ", " << ranks << " ranks, delay " << delay;
      }
}

TEST(RingOverlap, OneTickMoreIsSeenOnEveryHopOfForward) {
  constexpr Index tile_ticks = 8;
  for (const Ring& ring : kRings)
    for (const int ranks : kRanks)
      for (const Index excess : {1, 3})
        EXPECT_EQ(exposed_by(ring, ranks, tile_ticks, tile_ticks, tile_ticks + excess).forward,
                  on_all(ranks, (ranks - 1) * excess))
            << ring.name << ", " << ranks << " ranks";
}

// Half of the own keys' work hides the first arrival and half the last way home; a whole hop each of the others.
TEST(RingOverlap, OneTickMoreThanHalfAHopIsSeenAtBothEndsOfBackward) {
  constexpr Index hop_ticks = 16;
  for (const Ring& ring : kRings)
    for (const int ranks : kRanks) {
      EXPECT_EQ(exposed_by(ring, ranks, 1, hop_ticks, hop_ticks / 2).backward, on_all(ranks, 0));
      EXPECT_EQ(exposed_by(ring, ranks, 1, hop_ticks, hop_ticks / 2 + 1).backward, on_all(ranks, 2));
      // One tick more than a hop: on each of the inner hops, where keys, values and gradients go at once, a tick more.
      const Index ends = 2 * (hop_ticks / 2 + 1);
      EXPECT_EQ(exposed_by(ring, ranks, 1, hop_ticks, hop_ticks + 1).backward, on_all(ranks, ends + ranks - 2))
          << ring.name << ", " << ranks << " ranks";
    }
}

// Nothing moves while nobody calls: a kernel that never polls hides nothing.
TEST(RingOverlap, WithoutPollsEveryTransferIsSeen) {
  const Exposed exposed = exposed_by(kRings[0], 4, 0, 0, 5);
  EXPECT_EQ(exposed.forward, on_all(4, 3 * 5));
}

// The kernels that compute: their own polls hide the shortest of the hops they work on, and the late data are right.
TEST(RingOverlap, TheHostKernelsPollsHideAHop) {
  for (const Ring& kind : kRings)
    for (const int ranks : {2, 3, 4}) {
      const TokenLine line = line_of(kind, 192, ranks);
      const AttentionCase problem = test::problem_of(line, kHeads, kHeads, kWidth, 7);
      const auto exact = test::dense_attention<double>(problem);
      const auto plain = test::dense_attention<float>(problem);
      std::vector<Index> shortest(static_cast<std::size_t>(ranks));
      const auto run = [&](const std::function<Index(std::size_t)>& delay,
                           const std::function<void(const DelayedCommunicator&)>& look) {
        run_ranks(ranks, [&](Communicator& inner) {
          DelayedCommunicator ring(inner, delay(static_cast<std::size_t>(inner.rank())));
          const auto kernel = make_host_kernel();
          const auto got = test::run_ring(ring, *kernel, line, problem);
          if (ring.rank() == 0) test::expect_close(got.result, exact, plain, 4, kind.name);
          look(ring);
        });
      };
      run([](std::size_t) { return Index{0}; },
          [&](const DelayedCommunicator& ring) {
            shortest[static_cast<std::size_t>(ring.rank())] = std::ranges::min(ring.windows);
          });
      for (const Index ticks : shortest) EXPECT_GT(ticks, 0) << kind.name << ", " << ranks << " ranks";
      run([&](std::size_t rank) { return shortest[rank]; },
          [&](const DelayedCommunicator& ring) { EXPECT_EQ(ring.exposed, 0) << kind.name << ", " << ranks; });
      run([&](std::size_t rank) { return shortest[rank] + 1; },
          [&](const DelayedCommunicator& ring) { EXPECT_GT(ring.exposed, 0) << kind.name << ", " << ranks; });
    }
}

// Between two polls a rank of one thread computes at most so many (row, key) pairs: with 128 channels and the five
// products of backward, 0.17 GFLOP, a few milliseconds, which is what a socket's buffers have to last.
TEST(RingOverlap, KernelsPollOftenEnough) {
  constexpr Index pairs_between_polls = Index{1} << 17;
  const auto kernel = make_host_kernel();
  for (const Index tokens : {Index{96}, Index{1000}, Index{3000}})
    for (const bool causal : {true, false}) {
      const MaskPlan mask = causal ? test::causal_mask(tokens) : test::full_mask(tokens, tokens);
      const AttentionCase problem = test::random_case(mask, 1, 1, kWidth, 3);
      Index polls = 0;
      PollingKernel polling(*kernel, [&] { ++polls; });
      for (Index passes = 1; passes <= 2; ++passes) test::run_kernel(polling, problem);
      EXPECT_GE(polls * pairs_between_polls, 2 * 2 * mask.pairs()) << tokens << (causal ? " causal" : " full");
    }
}

}  // namespace
}  // namespace plasmid
