// The LSH self-attention module over ranks: hashing, attention and projections together give the bits of one rank, and
// the weights' gradients their sums.
#include "attention/block/lsh_self_attention.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "parallel/comm/self.hpp"
#include "runtime/nn/whole_store.hpp"
#include "tests/support/local_line.hpp"
#include "tests/support/ranks.hpp"

namespace plasmid::test {
namespace {

constexpr Index kTokens = 410, kWidth = 24, kHeads = 3, kHeadDim = 8;
const std::vector<Index> kDocuments = {150, 1, 259};

std::vector<float> normal(Index n, unsigned seed) {
  std::mt19937 bits(seed);
  std::normal_distribution<float> draw;
  std::vector<float> values(static_cast<std::size_t>(n));
  for (float& value : values) value = draw(bits);
  return values;
}

struct Results {
  std::vector<float> y, dx;       // this rank's tokens
  std::vector<float> parameters;  // their gradients, of this rank's tokens
};

// Two steps, the second of which recomputes from the buckets alone: its results are returned.
Results run(Communicator& ring, const LocalLine& line) {
  constexpr AffineOptions plain{ops::WeightLayout::out_in, true, 0.3f};
  LshSelfAttention module({kHeads,
                           kHeadDim,
                           {make_affine("qk_v", kWidth, 2 * kHeads * kHeadDim, plain)},
                           make_affine("out", kHeads * kHeadDim, kWidth, plain)},
                          make_lsh_group(ring, {2, 16, true}, choose_lsh_buckets(kTokens, 16)));
  Ledger ledger;
  Arena saved(Arena::Kind::stack, ledger), scratch(Arena::Kind::pool, ledger), pool(Arena::Kind::pool, ledger);
  WholeStore store(module, pool);
  store.initialize(3);
  Stream stream;
  Context context{stream, saved, scratch, store, {5, 1, 2}, line.map(), {}, nullptr, nullptr};
  const std::vector<float> all_x = normal(kTokens * kWidth, 1), all_dy = normal(kTokens * kWidth, 2);
  const std::vector<float> x = line.part_of(std::span(all_x), kWidth), dy = line.part_of(std::span(all_dy), kWidth);
  Results results{std::vector<float>(x.size()), std::vector<float>(x.size()), {}};
  const Shape rows{line.tokens(), kWidth};
  const View y = view_of(std::span(results.y)).reshape(rows), dx = view_of(std::span(results.dx)).reshape(rows);
  const ConstView xs = view_of(std::span(x)).reshape(rows), dys = view_of(std::span(dy)).reshape(rows);
  const SavedPtr buckets = module.forward(context, Keep::decisions, xs, y);
  std::ranges::fill(results.y, 7.0f);
  module.backward(context, module.forward(context, Keep::all, xs, y, buckets.get()), xs, dys, Gradient{dx});
  results.parameters.assign(store.gradients().begin(), store.gradients().end());
  return results;
}

class LshSelfAttentionTest : public testing::TestWithParam<RankSet> {};

TEST_P(LshSelfAttentionTest, GivesTheBitsOfOneRank) {
  const auto self = make_self_communicator();
  const Results alone = run(*self, LocalLine(kDocuments, {{{0, kTokens}}}, 0));
  for (const Layout layout : {Layout::contiguous, Layout::zigzag})
    on_ranks(GetParam(), [&](Communicator& ring) {
      const LocalLine line(kDocuments, make_shards(1, kTokens, ring.size(), layout), ring.rank());
      Results part = run(ring, line);
      EXPECT_EQ(part.y, line.part_of(std::span(alone.y), kWidth));
      EXPECT_EQ(part.dx, line.part_of(std::span(alone.dx), kWidth));
      Stream stream;
      ring.all_reduce(view_of(std::span(part.parameters)), Reduce::sum, stream).wait(stream);
      double error = 0, size = 0;
      for (std::size_t i = 0; i < alone.parameters.size(); ++i) {
        error += std::pow(static_cast<double>(part.parameters[i]) - alone.parameters[i], 2);
        size += std::pow(static_cast<double>(alone.parameters[i]), 2);
      }
      // Sums over the tokens in another order: at worst a rounding a term.
      EXPECT_LE(std::sqrt(error), 0x1p-24 * std::sqrt(static_cast<double>(kTokens)) * std::sqrt(size));
    });
}

PLASMID_INSTANTIATE_ON_RANKS(LshSelfAttentionTest, rank_sets());

}  // namespace
}  // namespace plasmid::test
