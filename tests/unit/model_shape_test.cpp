// Defaults and refusals of model shapes, and the weights that a fresh model starts from.
#include <gtest/gtest.h>

#include <cmath>

#include "attention/model/language_model.hpp"
#include "parallel/comm/self.hpp"
#include "tests/support/expect_error.hpp"
#include "tests/support/model_run.hpp"

namespace plasmid::test {
namespace {

ModelShape small(Family family) {
  return {.family = family, .layers = 2, .width = 48, .heads = 4, .positions = 64, .vocabulary = 31};
}

TEST(ModelShape, TakesTheFamilysDefaults) {
  const ModelShape gpt2 = complete(small(Family::gpt2));
  EXPECT_EQ(gpt2.kv_heads, 4);
  EXPECT_EQ(gpt2.mlp_width, 192);
  const ModelShape llama = complete(small(Family::llama));
  EXPECT_EQ(llama.kv_heads, 4);
  EXPECT_EQ(llama.mlp_width, 128);  // 8/3 of 48
  ModelShape odd = small(Family::llama);
  odd.width = 56;
  EXPECT_EQ(complete(odd).mlp_width, 160);  // 149.33, up to a multiple of 32
  EXPECT_TRUE(default_tied_head(Family::gpt2));
  EXPECT_FALSE(default_tied_head(Family::llama));
}

struct Refusal {
  Family family;
  Index ModelShape::*field;
  Index value;
  std::vector<std::string> words;
};
class RefusedShape : public testing::TestWithParam<Refusal> {};

TEST_P(RefusedShape, NamesFieldAndArithmetic) {
  ModelShape shape = small(GetParam().family);
  shape.*(GetParam().field) = GetParam().value;
  expect_error(ErrorCode::config, GetParam().words, [&] { complete(shape); });
}

INSTANTIATE_TEST_SUITE_P(
    , RefusedShape,
    testing::Values(Refusal{Family::gpt2, &ModelShape::layers, 0, {"model.layers is not given"}},
                    Refusal{Family::gpt2, &ModelShape::width, -48, {"model.width = -48"}},
                    Refusal{Family::gpt2, &ModelShape::vocabulary, Index{1} << 31, {"model.vocabulary = 2147483648"}},
                    Refusal{
                        Family::gpt2, &ModelShape::heads, 5, {"model.heads = 5", "model.width = 48", "remainder 3"}},
                    Refusal{Family::llama, &ModelShape::kv_heads, 3, {"model.kv_heads = 3", "model.heads = 4"}},
                    Refusal{Family::llama, &ModelShape::kv_heads, 8, {"model.kv_heads = 8", "model.heads = 4"}},
                    Refusal{Family::gpt2, &ModelShape::kv_heads, 2, {"model.kv_heads = 2", "GPT2"}},
                    Refusal{Family::llama, &ModelShape::heads, 16, {"even head size", "48 / 16 = 3"}},
                    Refusal{Family::gpt2, &ModelShape::mlp_width, -1, {"model.mlp_width = -1"}}));

// 6 for each weight of a matrix product and token, the head's included, the embedding's look-up not; attention
// 12 L N H d keys, of which a causal line lets each query see half on average, a window its width.
TEST(ModelCost, CountsFlopsByName) {
  const auto self = make_self_communicator();
  const double n = 640, width = 48, layers = 2;
  const TensorSpec in[] = {{{640}, DType::i32}, {{640}, DType::i32}};
  const auto flops = [&](Family family, const Pattern& pattern) {
    return make_language_model(small(family), *self, pattern)->cost(in, Keep::all).flops;
  };
  const double gpt2 = layers * (4 * width * width + 2 * width * 192) + 31 * width;
  const double llama = layers * (4 * width * width + 3 * width * 128) + 31 * width;
  EXPECT_DOUBLE_EQ(flops(Family::gpt2, Pattern::causal()), 6 * gpt2 * n + 12 * layers * n * width * n / 2);
  EXPECT_DOUBLE_EQ(flops(Family::llama, Pattern::causal()), 6 * llama * n + 12 * layers * n * width * n / 2);
  const double keys = 64 - 64 * 64 / (2 * n);  // the first 64 queries see fewer
  EXPECT_DOUBLE_EQ(flops(Family::gpt2, {64, 0}), 6 * gpt2 * n + 12 * layers * n * width * keys);
}

// What a layer keeps for backward: its input, and with CORE attention's (out, lse), and without recompute far more.
TEST(ModelCost, RecomputeTradesMemory) {
  const auto self = make_self_communicator();
  ModelShape shape = small(Family::gpt2);
  const Index tokens = 2048, row = tokens * 4 * shape.width;
  const TensorSpec in[] = {{{tokens}, DType::i32}, {{tokens}, DType::i32}};
  const auto cost = [&](Index layers, Recompute recompute) {
    shape.layers = layers;
    return make_language_model(shape, *self, Pattern::causal(), recompute)->cost(in, Keep::all);
  };
  const auto per_layer = [&](Recompute recompute) { return cost(9, recompute).saved - cost(8, recompute).saved; };
  EXPECT_EQ(per_layer(Recompute::all), row);
  EXPECT_EQ(per_layer(Recompute::core), 2 * row + tokens * 4 * shape.heads);
  // Besides: the stream between the halves, q, k and v, the hidden layer of four widths, and the norms' statistics.
  EXPECT_EQ(per_layer(Recompute::none), (2 + 1 + 3 + 4) * row + tokens * 4 * (shape.heads + 4));
  EXPECT_LT(cost(8, Recompute::all).together(), cost(8, Recompute::core).together());
  EXPECT_LT(cost(8, Recompute::core).together(), cost(8, Recompute::none).together());
}

double deviation(std::span<const float> values) {
  double squares = 0;
  for (const float value : values) squares += static_cast<double>(value) * value;
  return std::sqrt(squares / static_cast<double>(values.size()));
}

TEST(InitialWeights, ResidualProjectionsStartSmaller) {
  const auto self = make_self_communicator();
  for (const Family family : {Family::gpt2, Family::llama}) {
    ModelRun run(small(family), 7, *self);
    for (const ParameterPtr& parameter : run.store().parameters()) {
      const std::string& name = parameter->name;
      const auto values = run.store().weight(*parameter).flat<float>();
      if (parameter->shape.rank == 1) {
        const float constant = name.ends_with(".bias") ? 0.0f : 1.0f;
        for (const float value : values) ASSERT_EQ(value, constant) << name;
        continue;
      }
      const bool residual =
          name.ends_with("c_proj.weight") || name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
      const double want = residual ? 0.02 / std::sqrt(4.0) : 0.02;  // 2 * layers branches
      // The deviation of n samples is itself off by 1 / sqrt(2n) of it; five times that.
      EXPECT_NEAR(deviation(values), want, 5 * want / std::sqrt(2 * static_cast<double>(values.size()))) << name;
    }
  }
}

}  // namespace
}  // namespace plasmid::test
