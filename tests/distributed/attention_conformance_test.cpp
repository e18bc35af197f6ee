// Self-attention and whole models over sharded sequences under the conformance routine: what the ranks compute together
// is differentiated as one function.
#include <gtest/gtest.h>

#include "attention/block/self_attention.hpp"
#include "attention/model/language_model.hpp"
#include "tests/support/conformance.hpp"
#include "tests/support/local_line.hpp"
#include "tests/support/ranks.hpp"

namespace plasmid::test {
namespace {

constexpr Index kTokens = 48, kWidth = 24, kHeadDim = 6;  // 48: equal shards on 1, 2, 3, 4 and 8 ranks

class AttentionConformanceOnRanks : public testing::TestWithParam<RankSet> {};

// Three documents, one across a border of shards.
void expect_conforms(Module& module, Communicator& ring, ConformanceOptions options) {
  const LocalLine line({11, 26, 11}, make_shards(1, kTokens, ring.size(), Layout::zigzag), ring.rank());
  options.tokens = &line.map();
  for (TensorSpec& spec : options.in) spec.shape.dim[0] = line.tokens();
  options.rank = static_cast<std::uint64_t>(ring.rank());
  options.sum = [&](std::span<double> values) {
    Stream stream;
    ring.all_reduce(view_of(values), Reduce::sum, stream).wait(stream);
  };
  EXPECT_EQ(check_conformance(module, options), std::vector<std::string>{})
      << "rank " << ring.rank() << " of " << ring.size();
}

TEST_P(AttentionConformanceOnRanks, SelfAttention) {
  constexpr AffineOptions plain{ops::WeightLayout::out_in, false, 0.2f};
  on_ranks(GetParam(), [&](Communicator& ring) {
    for (const Pattern& pattern : {Pattern::causal(), Pattern::full()}) {
      SelfAttentionOptions options{.heads = 4, .kv_heads = 2, .head_dim = kHeadDim, .rope_base = 100};
      options.inputs = {make_affine("q", kWidth, 4 * kHeadDim, plain), make_affine("k", kWidth, 2 * kHeadDim, plain),
                        make_affine("v", kWidth, 2 * kHeadDim, plain)};
      options.output = make_affine("o", 4 * kHeadDim, kWidth, plain);
      SelfAttention attention(options, make_attention_group(ring, pattern));
      expect_conforms(attention, ring, {.in = {{{kTokens, kWidth}}}, .integer = {}, .sum = {}});
    }
  });
}

TEST_P(AttentionConformanceOnRanks, LanguageModel) {
  on_ranks(GetParam(), [&](Communicator& ring) {
    const auto model = make_language_model({.family = Family::gpt2,
                                            .layers = 2,
                                            .width = kWidth,
                                            .heads = 4,
                                            .positions = 32,
                                            .vocabulary = 19,
                                            .dropout = 0.2},
                                           ring, Pattern::causal(), Recompute::core);
    expect_conforms(*model, ring,
                    {.in = {{{kTokens}, DType::i32}, {{kTokens}, DType::i32}},
                     .integer = [](std::size_t, Index i) { return static_cast<std::int32_t>((i * i + 3) % 19); },
                     .depth = 8,
                     .training = true,
                     .sum = {}});
  });
}

PLASMID_INSTANTIATE_ON_RANKS(AttentionConformanceOnRanks, rank_sets());

}  // namespace
}  // namespace plasmid::test
