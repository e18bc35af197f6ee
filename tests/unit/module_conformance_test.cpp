// Every module of runtime/nn under the conformance routine, at sizes where tails and tiles are uneven.
#include <gtest/gtest.h>

#include "runtime/nn/checkpointed.hpp"
#include "runtime/nn/dropped.hpp"
#include "runtime/nn/embedding.hpp"
#include "runtime/nn/linear.hpp"
#include "runtime/nn/loss_head.hpp"
#include "runtime/nn/mlp.hpp"
#include "runtime/nn/norm.hpp"
#include "runtime/nn/pre_norm.hpp"
#include "runtime/nn/sequence.hpp"
#include "runtime/nn/tiled.hpp"
#include "tests/support/conformance.hpp"
#include "tests/support/local_line.hpp"

namespace plasmid::test {
namespace {

constexpr Index kTokens = 37, kWidth = 24, kHidden = 40;
constexpr AffineOptions kOutIn{ops::WeightLayout::out_in, true, 0.2f}, kInOut{ops::WeightLayout::in_out, true, 0.2f},
    kPlain{ops::WeightLayout::out_in, false, 0.2f};

void expect_conforms(Module& module, ConformanceOptions options) {
  const LocalLine line({20, 17}, {{{0, kTokens}}}, 0);
  options.tokens = &line.map();
  EXPECT_EQ(check_conformance(module, options), std::vector<std::string>{});
}

void expect_conforms(Module& module, bool linear = false) {
  expect_conforms(module, {.in = {{{kTokens, kWidth}}}, .integer = {}, .linear = linear, .sum = {}});
}

std::unique_ptr<Mlp> mlp(const std::string& name = "mlp", ops::Activation gelu = ops::Activation::gelu_tanh) {
  return std::make_unique<Mlp>(make_affine(name + ".up", kWidth, kHidden, kInOut), gelu,
                               make_affine(name + ".down", kHidden, kWidth, kInOut));
}
std::unique_ptr<Module> residual(const std::string& name) {
  return std::make_unique<PreNorm>(std::make_unique<LayerNorm>(name + ".norm", kWidth, 1e-5f), mlp(name));
}
std::unique_ptr<Module> chain(int layers) {
  std::vector<std::unique_ptr<Module>> all;
  for (int i = 0; i < layers; ++i) all.push_back(residual("layer" + std::to_string(i)));
  return std::make_unique<Sequence>(std::move(all));
}

TEST(ModuleConformance, Linear) {
  for (const AffineOptions& options : {kOutIn, kInOut, kPlain}) {
    Linear linear(make_affine("linear", kWidth, 9, options));
    expect_conforms(linear, true);
  }
}

TEST(ModuleConformance, LayerNorm) {
  LayerNorm norm("norm", kWidth, 1e-5f);
  expect_conforms(norm);
}

TEST(ModuleConformance, RmsNorm) {
  RmsNorm norm("norm", kWidth, 1e-5f);
  expect_conforms(norm);
}

TEST(ModuleConformance, Mlp) {
  for (const ops::Activation gelu : {ops::Activation::gelu_tanh, ops::Activation::gelu_erf})
    expect_conforms(*mlp("mlp", gelu));
}

TEST(ModuleConformance, SwiGluMlp) {
  SwiGluMlp module(make_affine("gate", kWidth, kHidden, kPlain), make_affine("up", kWidth, kHidden, kPlain),
                   make_affine("down", kHidden, kWidth, kPlain));
  expect_conforms(module);
}

TEST(ModuleConformance, Embedding) {
  const ParameterPtr table = make_parameter("table", {11, kWidth}, {0, 1});
  for (const ParameterPtr& positions : {ParameterPtr(), make_parameter("positions", {20, kWidth}, {0, 1})}) {
    Embedding embedding(table, positions);
    expect_conforms(embedding, {.in = {{{kTokens}, DType::i32}},
                                .integer = [](std::size_t, Index i) { return static_cast<std::int32_t>(i * i % 11); },
                                .sum = {}});
  }
}

TEST(ModuleConformance, EmbeddingWithTwoAxesOfPositions) {
  for (const Index columns : {1, 5}) {
    const auto table = [](const char* name, Shape shape) { return make_parameter(name, shape, {0, 1}); };
    Embedding embedding(table("table", {11, kWidth}), {{table("rows", {20 / columns, 1, 7}), columns, 0},
                                                       {table("columns", {1, columns, kWidth - 7}), 1, 7}});
    expect_conforms(embedding, {.in = {{{kTokens}, DType::i32}},
                                .integer = [](std::size_t, Index i) { return static_cast<std::int32_t>(i * i % 11); },
                                .sum = {}});
  }
}

TEST(ModuleConformance, LossHead) {
  // 3000 tokens of 200 logits are three chunks, the last one short; a seventh of the labels does not count.
  LossHead head(make_parameter("head", {200, kWidth}, {0, 0.2f}));
  const LocalLine line(3000);
  ConformanceOptions options{
      .in = {{{3000, kWidth}}, {{3000}, DType::i32}}, .tokens = &line.map(), .integer = {}, .sum = {}};
  options.integer = [](std::size_t, Index i) { return i % 7 == 0 ? -1 : static_cast<std::int32_t>(i * 31 % 200); };
  EXPECT_EQ(check_conformance(head, options), std::vector<std::string>{});
}

TEST(ModuleConformance, PreNorm) { expect_conforms(*residual("branch")); }

TEST(ModuleConformance, Sequence) {
  for (const int layers : {1, 2, 4}) expect_conforms(*chain(layers));
}

TEST(ModuleConformance, Tiled) {
  for (const Index tile : {Index{8}, kTokens, Index{100}}) {
    Tiled tiled(residual("branch"), tile);
    expect_conforms(tiled);
  }
}

TEST(ModuleConformance, WithoutTokens) {  // a rank whose part of the sequence is empty
  const LocalLine line({}, {{}}, 0);
  Tiled tiled(chain(2), 8);
  EXPECT_EQ(check_conformance(tiled, {.in = {{{0, kWidth}}}, .tokens = &line.map(), .integer = {}, .sum = {}}),
            std::vector<std::string>{});
}

TEST(ModuleConformance, Dropped) {
  Dropped linear(std::make_unique<Linear>(make_affine("linear", kWidth, 9, kOutIn)), 0.4, DropoutPlace::mlp_output);
  expect_conforms(linear, {.in = {{{kTokens, kWidth}}}, .integer = {}, .linear = true, .training = true, .sum = {}});
}

TEST(ModuleConformance, DroppedBranchesInTilesAndRecomputed) {
  const auto branch = [](const std::string& name) {
    return std::make_unique<PreNorm>(std::make_unique<LayerNorm>(name + ".norm", kWidth, 1e-5f),
                                     dropped(mlp(name), 0.3, DropoutPlace::mlp_output));
  };
  std::vector<std::unique_ptr<Module>> layers;
  layers.push_back(std::make_unique<Tiled>(branch("a"), 8));
  layers.push_back(std::make_unique<Checkpointed>(branch("b"), Keep::nothing));
  Sequence sequence(std::move(layers));
  expect_conforms(sequence, {.in = {{{kTokens, kWidth}}}, .integer = {}, .training = true, .sum = {}});
}

TEST(ModuleConformance, Checkpointed) {
  for (const Keep level : {Keep::nothing, Keep::core}) {
    Checkpointed checkpointed(chain(3), level);
    expect_conforms(checkpointed);
  }
}

}  // namespace
}  // namespace plasmid::test
