// Self-attention, blocks and whole language models under the conformance routine, on one rank.
#include <gtest/gtest.h>

#include "attention/block/self_attention.hpp"
#include "attention/block/transformer_block.hpp"
#include "attention/model/language_model.hpp"
#include "parallel/comm/self.hpp"
#include "runtime/nn/mlp.hpp"
#include "runtime/nn/norm.hpp"
#include "tests/support/conformance.hpp"
#include "tests/support/local_line.hpp"

namespace plasmid::test {
namespace {

constexpr Index kTokens = 45, kWidth = 24, kHeadDim = 6;
constexpr AffineOptions kFused{ops::WeightLayout::in_out, true, 0.2f}, kPlain{ops::WeightLayout::out_in, false, 0.2f};

SelfAttentionOptions fused() {
  return {.heads = 4,
          .kv_heads = 4,
          .head_dim = kHeadDim,
          .inputs = {make_affine("c_attn", kWidth, 3 * kWidth, kFused)},
          .output = make_affine("c_proj", kWidth, kWidth, kFused)};
}
SelfAttentionOptions rotary_and_grouped() {
  return {.heads = 4,
          .kv_heads = 2,
          .head_dim = kHeadDim,
          .rope_base = 100,
          .inputs = {make_affine("q", kWidth, 4 * kHeadDim, kPlain), make_affine("k", kWidth, 2 * kHeadDim, kPlain),
                     make_affine("v", kWidth, 2 * kHeadDim, kPlain)},
          .output = make_affine("o", 4 * kHeadDim, kWidth, kPlain)};
}

void expect_conforms(Module& module, bool training = false) {
  const LocalLine line({17, 28}, {{{0, kTokens}}}, 0);
  EXPECT_EQ(
      check_conformance(
          module, {.in = {{{kTokens, kWidth}}}, .tokens = &line.map(), .integer = {}, .training = training, .sum = {}}),
      std::vector<std::string>{});
}

TEST(AttentionConformance, SelfAttention) {
  const auto self = make_self_communicator();
  for (const Pattern& pattern : {Pattern::causal(), Pattern::full(), Pattern{7, 3}})
    for (const auto& options : {fused(), rotary_and_grouped()}) {
      SelfAttention attention(options, make_attention_group(*self, pattern));
      expect_conforms(attention);
    }
}

TEST(AttentionConformance, SelfAttentionOverTheReferenceKernel) {
  const auto self = make_self_communicator();
  SelfAttention attention(rotary_and_grouped(),
                          make_attention_group(*self, Pattern::causal(), make_reference_kernel()));
  expect_conforms(attention);
}

TEST(AttentionConformance, SelfAttentionWithDropout) {
  const auto self = make_self_communicator();
  for (SelfAttentionOptions options : {fused(), rotary_and_grouped()}) {
    options.dropout = 0.3;
    SelfAttention attention(options, make_attention_group(*self, Pattern::causal()));
    expect_conforms(attention, true);
  }
}

TEST(AttentionConformance, TransformerBlock) {
  const auto self = make_self_communicator();
  const auto group = make_attention_group(*self, Pattern::causal());
  const auto block = make_transformer_block(
      {.attention_norm = std::make_unique<RmsNorm>("norm1", kWidth, 1e-5f),
       .attention = std::make_unique<SelfAttention>(rotary_and_grouped(), group),
       .mlp_norm = std::make_unique<LayerNorm>("norm2", kWidth, 1e-5f),
       .mlp = std::make_unique<Mlp>(make_affine("up", kWidth, 40, kFused), ops::Activation::gelu_tanh,
                                    make_affine("down", 40, kWidth, kFused))});
  expect_conforms(*block);
}

TEST(AttentionConformance, LanguageModels) {
  const auto self = make_self_communicator();
  const LocalLine line({17, 28}, {{{0, kTokens}}}, 0);
  ConformanceOptions options{
      .in = {{{kTokens}, DType::i32}, {{kTokens}, DType::i32}},
      .tokens = &line.map(),
      .integer = [](std::size_t input,
                    Index i) { return input == 1 && i % 9 == 0 ? -1 : static_cast<std::int32_t>((i * i + 3) % 19); },
      .depth = 8,
      .sum = {}};
  for (const Family family : {Family::gpt2, Family::llama})
    for (const Recompute recompute : {Recompute::none, Recompute::core, Recompute::all}) {
      ModelShape shape{.family = family, .layers = 2, .width = kWidth, .heads = 4, .positions = 32, .vocabulary = 19};
      if (family == Family::llama) shape.kv_heads = 2, shape.tied_head = false;
      const auto model = make_language_model(shape, *self, Pattern::causal(), recompute);
      EXPECT_EQ(check_conformance(*model, options), std::vector<std::string>{})
          << "family " << static_cast<int>(family) << ", recompute " << static_cast<int>(recompute);
      shape.dropout = 0.2;
      const auto dropping = make_language_model(shape, *self, Pattern::causal(), recompute);
      options.training = true;
      EXPECT_EQ(check_conformance(*dropping, options), std::vector<std::string>{})
          << "with dropout, family " << static_cast<int>(family) << ", recompute " << static_cast<int>(recompute);
      options.training = false;
    }
}

}  // namespace
}  // namespace plasmid::test
