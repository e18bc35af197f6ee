// Reformer models whose sequence is sharded over ranks: with LSH layers alone nothing depends on the number of ranks
// but the order of sums over tokens, so logits are those of one rank to the bit.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "parallel/comm/self.hpp"
#include "parallel/cp/partition.hpp"
#include "tests/support/local_line.hpp"
#include "tests/support/model_run.hpp"
#include "tests/support/ranks.hpp"

namespace plasmid::test {
namespace {

ModelShape reformer(std::vector<LayerKind> kinds) {
  ModelShape shape{.family = Family::reformer,
                   .layers = 3,
                   .width = 24,
                   .heads = 3,
                   .positions = 160,
                   .vocabulary = 17,
                   .tied_head = false};
  shape.reformer.kinds = std::move(kinds);
  shape.reformer.local_chunk = 16;
  shape.reformer.lsh.chunk = 8;
  shape.reformer.lsh.rounds = 3;
  return shape;
}

class ReformerOnRanks : public testing::TestWithParam<RankSet> {};

// The last document ends in padding, whose logits and labels do not count.
void compare(Communicator& ring, const ModelShape& shape, bool same_bits, Index padding = 0) {
  SCOPED_TRACE("rank " + std::to_string(ring.rank()) + " of " + std::to_string(ring.size()));
  const std::vector<Index> documents = {70, 3, 1, 60, 23};
  Index length = 0;
  for (const Index document : documents) length += document;
  std::vector<std::int32_t> tokens, labels;
  for (Index i = 0; i < length; ++i) {
    tokens.push_back(static_cast<std::int32_t>((i * i + 3 * i) % 17));
    labels.push_back(i % 5 == 4 ? -1 : static_cast<std::int32_t>(7 * i % 17));
  }
  std::vector<std::uint8_t> valid;
  if (padding > 0) {
    valid.assign(static_cast<std::size_t>(length), 1);
    for (Index i = length - padding; i < length; ++i)
      valid[static_cast<std::size_t>(i)] = 0, labels[static_cast<std::size_t>(i)] = -1;
  }
  const auto self = make_self_communicator();
  ModelRun alone(shape, 3, *self), sharded(shape, 3, ring);
  const LocalLine whole(documents, {{{0, length}}}, 0, valid);
  const LocalLine line(documents, make_shards(1, length, ring.size(), Layout::zigzag), ring.rank(), valid);
  const auto part = [&](const std::vector<std::int32_t>& all) {
    return line.part_of(std::span<const std::int32_t>(all));
  };
  const std::vector<float> all_logits = alone.logits(whole.map(), tokens);
  const std::vector<float> wanted = line.part_of(std::span<const float>(all_logits), shape.vocabulary);
  const std::vector<float> found = sharded.logits(line.map(), part(tokens));
  ASSERT_EQ(found.size(), wanted.size());
  if (same_bits) {
    EXPECT_EQ(found, wanted);
  } else if (!found.empty()) {
    EXPECT_LE(relative_error(found, std::vector<double>(wanted.begin(), wanted.end())), 2e-5);
  }

  alone.step(whole.map(), tokens, labels, 1);
  sharded.step(line.map(), part(tokens), part(labels), 1);
  Stream stream;
  ring.all_reduce(view_of(sharded.store().gradients()), Reduce::sum, stream).wait(stream);
  const auto one = alone.store().gradients(), many = sharded.store().gradients();
  double gap = 0, norm = 0;
  for (std::size_t i = 0; i < one.size(); ++i) {
    gap += (one[i] - many[i]) * (one[i] - many[i]);
    norm += one[i] * one[i];
  }
  EXPECT_LE(std::sqrt(gap), 2e-5 * std::sqrt(norm));
}

TEST_P(ReformerOnRanks, LshLayersGiveTheBitsOfOneRank) {
  on_ranks(GetParam(), [](Communicator& ring) { compare(ring, reformer({LayerKind::lsh}), true); });
}

TEST_P(ReformerOnRanks, PaddingAtTheEndIsNotSeen) {
  on_ranks(GetParam(), [](Communicator& ring) {
    for (const Index padding : {5, 23}) compare(ring, reformer({LayerKind::lsh}), true, padding);
  });
}

// What padding holds changes nothing before it.
TEST(Reformer, PaddingIsNotSeen) {
  const auto self = make_self_communicator();
  const ModelShape shape = reformer({LayerKind::local, LayerKind::lsh});
  ModelRun run(shape, 3, *self);
  std::vector<std::uint8_t> valid(60, 1);
  std::fill(valid.begin() + 41, valid.end(), 0);
  const LocalLine line({60}, {{{0, 60}}}, 0, valid);
  std::vector<std::int32_t> tokens(60, 3);
  for (std::size_t i = 0; i < 41; ++i) tokens[i] = static_cast<std::int32_t>(i * i % 17);
  const std::vector<float> before = run.logits(line.map(), tokens);
  std::fill(tokens.begin() + 41, tokens.end(), 9);
  const std::vector<float> after = run.logits(line.map(), tokens);
  EXPECT_TRUE(std::equal(before.begin(), before.begin() + 41 * 17, after.begin()));
  EXPECT_NE(before, after);
}

TEST_P(ReformerOnRanks, MixedLayersEqualOneRank) {
  on_ranks(GetParam(), [](Communicator& ring) {
    compare(ring, reformer({LayerKind::local, LayerKind::dense}), false);
  });
}

PLASMID_INSTANTIATE_ON_RANKS(ReformerOnRanks, rank_sets());

}  // namespace
}  // namespace plasmid::test
