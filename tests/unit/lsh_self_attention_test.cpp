// The LSH self-attention module under the conformance routine, and what it keeps.
#include "attention/block/lsh_self_attention.hpp"

#include <gtest/gtest.h>

#include "parallel/comm/self.hpp"
#include "tests/support/conformance.hpp"
#include "tests/support/conformance_rig.hpp"
#include "tests/support/fixed_decisions.hpp"
#include "tests/support/local_line.hpp"

namespace plasmid::test {
namespace {

constexpr Index kTokens = 90, kWidth = 24, kHeads = 4, kHeadDim = 6;
constexpr AffineOptions kFused{ops::WeightLayout::in_out, true, 0.2f}, kPlain{ops::WeightLayout::out_in, false, 0.2f};

LshSelfAttentionOptions fused() {
  return {
      kHeads, kHeadDim, {make_affine("qk_v", kWidth, 2 * kWidth, kFused)}, make_affine("out", kWidth, kWidth, kFused)};
}
LshSelfAttentionOptions two() {
  return {kHeads,
          kHeadDim,
          {make_affine("qk", kWidth, kWidth, kPlain), make_affine("v", kWidth, kWidth, kPlain)},
          make_affine("out", kWidth, kWidth, kPlain)};
}

ConformanceOptions options_of(const LocalLine& line) {
  return {.in = {{{kTokens, kWidth}}}, .tokens = &line.map(), .integer = {}, .depth = 8, .sum = {}};
}

std::vector<LshOptions> kinds() {
  return {{2, 8, true}, {3, 16, false}, {2, 8, true, true}, {2, 16, true, false, PreviousChunk::sorted}};
}

// Of several documents, but for the kind whose scratch grows with their number.
std::vector<Index> documents_for(const LshOptions& kind) {
  return kind.previous == PreviousChunk::sorted ? std::vector<Index>{kTokens} : std::vector<Index>{40, 1, 49};
}

TEST(LshSelfAttention, ConformsWithFixedBuckets) {
  const auto self = make_self_communicator();
  for (const LshOptions& kind : kinds()) {
    const LocalLine line(documents_for(kind), {{{0, kTokens}}}, 0);
    for (const auto& options : {fused(), two()}) {
      LshSelfAttention attention(options, make_lsh_group(*self, kind, {4, 2}));
      FixedDecisions fixed(attention);
      EXPECT_EQ(check_conformance(fixed, options_of(line)), std::vector<std::string>{}) << kind.rounds;
    }
  }
}

// A hash has no derivative: a difference across the border of a bucket is none of the gradient's.
TEST(LshSelfAttention, ConformsButForDerivativesWhereItHashes) {
  const auto self = make_self_communicator();
  for (const LshOptions& kind : kinds()) {
    const LocalLine line(documents_for(kind), {{{0, kTokens}}}, 0);
    LshSelfAttention attention(fused(), make_lsh_group(*self, kind, {4, 2}));
    std::vector<std::string> failures = check_conformance(attention, options_of(line));
    std::erase_if(failures, [](const std::string& line_of) { return line_of.starts_with("derivative: "); });
    EXPECT_EQ(failures, std::vector<std::string>{});
  }
}

TEST(LshSelfAttention, KeepsTwoBytesATokenHeadAndRound) {
  const auto self = make_self_communicator();
  const LocalLine line({1024}, {{{0, 1024}}}, 0);
  LshSelfAttention attention(fused(), make_lsh_group(*self, {5, 16}, {64, 1}));
  const ConformanceOptions options{.in = {{{1024, kWidth}}}, .tokens = &line.map(), .integer = {}, .sum = {}};
  ConformanceRig rig(attention, options);
  const SavedPtr saved = rig.forward(Keep::decisions);
  EXPECT_EQ(rig.saved.live_bytes(), 2 * 1024 * kHeads * 5);
}

TEST(LshSelfAttention, LayersHashByRotationsOfTheirOwn) {
  const auto self = make_self_communicator();
  const LocalLine line({kTokens}, {{{0, kTokens}}}, 0);
  LshSelfAttention attention(fused(), make_lsh_group(*self, {1, 8}, {8, 1}));
  const ConformanceOptions options = options_of(line);
  ConformanceRig rig(attention, options);
  const auto output = [&](std::uint64_t seed, std::uint64_t step, std::uint64_t layer) {
    Context context = rig.context();
    context.rng = {seed, step, layer};
    (void)attention.forward(context, Keep::nothing, ConstView(rig.x[0].view()), rig.y[0].view());
    return bits_of(rig.y);
  };
  EXPECT_EQ(output(1, 1, 1), output(1, 2, 1));
  EXPECT_NE(output(1, 1, 1), output(1, 1, 2));
  EXPECT_NE(output(1, 1, 1), output(2, 1, 1));
}

}  // namespace
}  // namespace plasmid::test
