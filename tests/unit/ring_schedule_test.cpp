// The schedules of all ranks side by side, without a communicator: what each rank does must be what its peers expect.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <set>

#include "attention/model/family.hpp"
#include "attention/ring/ring.hpp"
#include "parallel/comm/self.hpp"
#include "runtime/nn/whole_store.hpp"
#include "tests/support/local_line.hpp"
#include "tests/support/token_line.hpp"

namespace plasmid {
namespace {

using test::TokenLine;

class Ring {
 public:
  Ring(const TokenLine& unsplit, int size, Layout layout) : line_(unsplit.split(size, layout)), size_(size) {
    for (int rank = 0; rank < size; ++rank)
      schedules_.push_back(ring_schedule(line_.map(rank), line_.pattern, rank, size));
  }
  Hop at(int rank, int hop) const {  // past the end nothing is done
    const RecycledVector<Hop>& hops = schedules_[static_cast<std::size_t>(rank)];
    return hop < std::ssize(hops) ? hops[static_cast<std::size_t>(hop)] : Hop{(rank + size_ - hop % size_) % size_};
  }
  bool needed(int query, int key) const { return plan_mask(line_.map(query), query, key, line_.pattern).pairs() > 0; }
  int size() const { return size_; }
  int next(int rank) const { return (rank + 1) % size_; }
  std::size_t length(int rank) const { return schedules_[static_cast<std::size_t>(rank)].size(); }
  int sends() const {
    int count = 0;
    for (int rank = 0; rank < size_; ++rank)
      for (int hop = 0; hop < size_; ++hop) count += at(rank, hop).send;
    return count;
  }

 private:
  TokenLine line_;
  int size_;
  std::vector<RecycledVector<Hop>> schedules_;
};

void check_work(const Ring& ring) {
  for (int rank = 0; rank < ring.size(); ++rank) {
    std::multiset<int> worked;
    for (int hop = 0; hop < ring.size(); ++hop) {
      ASSERT_EQ(ring.at(rank, hop).source, (rank + ring.size() - hop) % ring.size());
      if (ring.at(rank, hop).work) worked.insert(ring.at(rank, hop).source);
    }
    for (int source = 0; source < ring.size(); ++source)
      EXPECT_EQ(worked.count(source), ring.needed(rank, source) ? 1u : 0u) << rank << " with keys of " << source;
    ASSERT_LE(ring.length(rank), static_cast<std::size_t>(ring.size()));
  }
}

void check_chunks(const Ring& ring) {
  for (int source = 0; source < ring.size(); ++source) {
    int farthest = 0, moves = 0;
    for (int hop = 1; hop < ring.size(); ++hop)
      if (ring.needed((source + hop) % ring.size(), source)) farthest = hop;
    bool held = true;
    for (int hop = 0; hop < ring.size(); ++hop) {
      const int rank = (source + hop) % ring.size();
      const Hop now = ring.at(rank, hop);
      EXPECT_TRUE(held || !now.work) << rank << " works on the keys of " << source << ", which never came";
      EXPECT_TRUE(held || !now.send) << rank << " sends the keys of " << source << ", which never came";
      EXPECT_EQ(now.send, hop + 1 < ring.size() && ring.at(ring.next(rank), hop).receive) << rank << " hop " << hop;
      held = now.send;
      moves += now.send;
    }
    EXPECT_EQ(moves, farthest) << "the keys of " << source << " travel to the last that needs them";
    EXPECT_FALSE(held) << "the keys of " << source << " arrive where no hop is left";
  }
}

void check_gradients(const Ring& ring) {
  for (int source = 0; source < ring.size(); ++source) {
    std::set<int> expected, sum;  // ranks whose share the travelling sums hold
    for (int hop = 1; hop < ring.size(); ++hop)
      if (ring.needed((source + hop) % ring.size(), source)) expected.insert((source + hop) % ring.size());
    bool coming = false, home = false;
    for (int hop = 0; hop < ring.size(); ++hop) {
      const int rank = (source + hop) % ring.size();
      const Hop now = ring.at(rank, hop);
      EXPECT_EQ(now.add_gradient, coming) << "of " << source << " at " << rank << " hop " << hop;
      if (now.work && hop > 0) {
        EXPECT_TRUE(sum.insert(rank).second);
        EXPECT_GE(now.gradient_to, 0) << rank << " keeps what it owes to " << source;
      }
      coming = now.gradient_to >= 0 && now.gradient_to != source;
      EXPECT_TRUE(!coming || now.gradient_to == ring.next(rank));
      const bool sent_home = now.gradient_to == source;
      EXPECT_EQ(sent_home, ring.at(source, hop).gradient_home_from == rank) << "of " << source << " hop " << hop;
      EXPECT_FALSE(home && sent_home) << "home twice";
      home = home || sent_home;
    }
    EXPECT_FALSE(coming) << "the gradients of " << source << " are lost";
    EXPECT_EQ(home, !expected.empty());
    EXPECT_EQ(sum, expected);
  }
}

TEST(RingSchedule, RanksAgreeOnEveryHopAndNothingIsLostOrDoneTwice) {
  for (const TokenLine& line : test::token_lines())
    for (const Layout layout : {Layout::contiguous, Layout::zigzag})
      for (const int size : {1, 2, 3, 4, 5, 8, 13}) {
        SCOPED_TRACE(line.name + (layout == Layout::zigzag ? " zigzag " : " contiguous ") + std::to_string(size));
        const Ring ring(line, size, layout);
        check_work(ring);
        check_chunks(ring);
        check_gradients(ring);
        if (testing::Test::HasFailure()) return;
      }
}

TEST(RingSchedule, PruningKeepsTransfersToWhatIsNeeded) {
  const auto sends = [](const TokenLine& line, Layout layout) { return Ring(line, 8, layout).sends(); };
  const TokenLine full{"", 1, 512, Pattern::full(), {}, {}, {}}, causal{"", 1, 512, Pattern::causal(), {}, {}, {}};
  EXPECT_EQ(sends(full, Layout::zigzag), 8 * 7);
  EXPECT_EQ(sends(causal, Layout::zigzag), 8 * 7);
  EXPECT_EQ(sends(causal, Layout::contiguous), 7 + 6 + 5 + 4 + 3 + 2 + 1);  // keys only travel to later ranks
  // 64 tokens a rank: a window of up to 65 keys reaches one rank back, one more reaches two.
  EXPECT_EQ(sends({"", 1, 512, {64, 0}, {}, {}, {}}, Layout::contiguous), 7);
  EXPECT_EQ(sends({"", 1, 512, {65, 0}, {}, {}, {}}, Layout::contiguous), 7 + 6);
  // Each document lies within one rank: nothing moves.
  EXPECT_EQ(
      sends({"", 1, 512, Pattern::full(), {0, 64, 128, 192, 256, 320, 384, 448, 512}, {}, {}}, Layout::contiguous), 0);
  EXPECT_EQ(sends({"", 8, 64, Pattern::full(), {}, {}, {}}, Layout::contiguous), 8 * 7);  // samples are split, though
  // Keys of ranks 4 to 7 are padding: nobody asks for them.
  std::vector<std::uint8_t> first_half(512, 0);
  std::fill_n(first_half.begin(), 256, std::uint8_t{1});
  EXPECT_EQ(sends({"", 1, 512, Pattern::full(), {}, first_half, {}}, Layout::contiguous), 4 * 7);
}

TEST(RingSchedule, ZigzagGivesEveryRankTheSameCausalWorkInEachHop) {
  for (const int size : {2, 4, 8}) {
    const TokenLine line = TokenLine{"", 1, 2 * size * 8, Pattern::causal(), {}, {}, {}}.split(size, Layout::zigzag);
    for (int hop = 0; hop < size; ++hop)
      for (int rank = 0; rank < size; ++rank) {
        const auto pairs = [&](int r) {
          return plan_mask(line.map(r), r,
                           ring_schedule(line.map(r), line.pattern, r, size)[static_cast<std::size_t>(hop)].source,
                           line.pattern)
              .pairs();
        };
        EXPECT_EQ(pairs(rank), pairs(0)) << "hop " << hop << " of " << size;
      }
  }
}

TEST(RingSchedule, EndsWithTheLastHopThatDoesAnything) {
  const Ring ring({"", 1, 512, {10, 0}, {}, {}, {}}, 8, Layout::contiguous);
  EXPECT_EQ(ring.length(3), 2u);
}

// Forward and backward of all layers, recomputed or not, go by one plan of their batch.
TEST(RingSchedule, IsMadeOnceAPass) {
  const auto self = make_self_communicator();
  const std::vector<std::int32_t> tokens = {3, 1, 4, 1, 5, 9, 2, 6, 5}, labels = {1, 4, 1, 5, 9, 2, 6, 5, 3};
  const test::LocalLine line({4, 5}, {{{0, 9}}}, 0);
  for (const Recompute recompute : {Recompute::none, Recompute::core, Recompute::all}) {
    const auto group = make_attention_group(*self, Pattern::causal());
    const auto model = make_decoder(
        complete({.family = Family::gpt2, .layers = 3, .width = 8, .heads = 2, .positions = 16, .vocabulary = 10}),
        group, recompute);
    Ledger ledger;
    Arena saved_arena(Arena::Kind::stack, ledger), scratch(Arena::Kind::pool, ledger), pool(Arena::Kind::pool, ledger);
    WholeStore store(*model, pool);
    store.initialize(1);
    Stream stream;
    Context context{stream, saved_arena, scratch, store, {}, line.map(), {}};
    const ConstView x[] = {view_of(std::span(tokens)), view_of(std::span(labels))};
    double loss = 0;
    const double one = 1;
    Index counted = 0;
    const View y[] = {view_of(std::span(&loss, 1)), view_of(std::span(&counted, 1))};
    for (int pass = 1; pass <= 2; ++pass) {
      SavedPtr saved = model->forward(context, Keep::all, x, y);
      const ConstView dy[] = {view_of(std::span(&one, 1)), {}};
      const Gradient none[] = {{{}, Write::skip}, {{}, Write::skip}};
      model->backward(context, std::move(saved), x, dy, none);
      EXPECT_EQ(group->ring->plans(), pass);
    }
    EXPECT_EQ(group->plan, nullptr) << "a plan outlives its batch";
  }
}

TEST(RingSchedule, PlansHoldTheMaskOfEveryHop) {
  for (const TokenLine& whole : test::token_lines())
    for (const Layout layout : {Layout::contiguous, Layout::zigzag}) {
      const TokenLine line = whole.split(4, layout);
      for (int rank = 0; rank < 4; ++rank) {
        const RingPlan plan = plan_ring(line.map(rank), line.pattern, rank, 4);
        std::vector<bool> used(plan.masks.size(), false);
        for (const Hop& hop : plan.hops) {
          ASSERT_EQ(hop.mask >= 0, hop.work) << line.name;
          if (!hop.work) continue;
          used[static_cast<std::size_t>(hop.mask)] = true;
          EXPECT_EQ(plan.mask(hop), plan_mask(line.map(rank), rank, hop.source, line.pattern)) << line.name;
        }
        EXPECT_TRUE(std::ranges::all_of(used, std::identity{})) << line.name;
      }
    }
}

// What a ring's masks take must not grow with it: the own shard, the earlier ones and the later ones.
TEST(RingSchedule, HopsShareTheirMasks) {
  for (const int size : {2, 8, 32}) {
    const TokenLine line = TokenLine{"", 1, 64 * size, Pattern::causal(), {}, {}, {}}.split(size, Layout::zigzag);
    for (int rank = 0; rank < size; ++rank) {
      const RingPlan plan = plan_ring(line.map(rank), line.pattern, rank, size);
      EXPECT_EQ(std::ssize(plan.masks), 1 + (rank > 0) + (rank < size - 1));
    }
  }
}

// Padding in stripes: a shard is skipped where none of the keys that it may see is valid, and only there.
TEST(RingSchedule, SkipsWhatIsPaddingAlone) {
  std::vector<std::uint8_t> valid(96, 0);
  for (const int key : {0, 1, 30, 31, 95}) valid[static_cast<std::size_t>(key)] = 1;
  for (const Layout layout : {Layout::contiguous, Layout::zigzag}) {
    const TokenLine line = TokenLine{"", 1, 96, Pattern{20, 3}, {}, valid, {}}.split(6, layout);
    for (int rank = 0; rank < 6; ++rank)
      for (const Hop& hop : ring_schedule(line.map(rank), line.pattern, rank, 6))
        EXPECT_EQ(hop.work, plan_mask(line.map(rank), rank, hop.source, line.pattern).pairs() > 0)
            << rank << " on " << hop.source;
  }
}

}  // namespace
}  // namespace plasmid
