// Queries, keys and values stored as bf16: kernels and blocks compute on the rounded numbers as on any others.
#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <cmath>

#include "attention/block/self_attention.hpp"
#include "parallel/comm/self.hpp"
#include "runtime/base/bfloat16.hpp"
#include "runtime/nn/whole_store.hpp"
#include "tests/support/attention_case.hpp"
#include "tests/support/expect_error.hpp"
#include "tests/support/local_line.hpp"
#include "tests/support/model_run.hpp"

namespace plasmid {
namespace {

using test::AttentionCase;

std::vector<AttentionCase> cases() {
  MaskPlan padded = test::window_mask(250, 90, 20), tiles = test::window_mask(210, 150, 30);
  padded.key_valid.assign(250, 1);
  for (std::size_t j = 0; j < 250; j += 7) padded.key_valid[j] = 0;
  tiles.tile = 16;
  for (std::int32_t i = 0; i < 14; ++i)
    for (std::int32_t j = 0; j < 14; ++j)
      if ((i * 5 + j * 3) % 4 != 0) tiles.tiles.push_back({i, j});
  std::vector<AttentionCase> cases = {test::random_case(padded, 2, 2, 32, 1), test::random_case(tiles, 2, 1, 20, 2),
                                      test::random_case(test::full_mask(33, 97), 6, 2, 24, 3)};
  for (const Index d : {1, 7, 33, 64, 80, 128})
    cases.push_back(test::random_case(test::causal_mask(150), 2, 1, d, static_cast<unsigned>(d)));
  AttentionCase dropping = test::random_case(test::causal_mask(130), 2, 1, 16, 4);
  dropping.dropout = {5, dropped_of_65536(0.2)};
  dropping.query_tokens = dropping.key_tokens = {{0, 130}};
  cases.push_back(dropping);
  return cases;
}

TEST(StoredAttention, BitsAreThoseOfTheWidenedNumbers) {
  const auto host = make_host_kernel(), reference = make_reference_kernel();
  for (const AttentionCase& any : cases()) {
    const AttentionCase stored = test::rounded_case(any);
    AttentionCase wide = stored;
    wide.storage = DType::f32;
    const auto compare = [&](AttentionKernel& kernel, const std::string& what) {
      const auto a = test::run_kernel(kernel, stored), b = test::run_kernel(kernel, wide);
      EXPECT_EQ(a.out, b.out) << what;
      EXPECT_EQ(a.lse, b.lse) << what;
      EXPECT_EQ(a.dq, b.dq) << what;
      EXPECT_EQ(a.dk, b.dk) << what;
      EXPECT_EQ(a.dv, b.dv) << what;
    };
    compare(*reference, "reference");
    for (const std::int64_t target : hwy::SupportedAndGeneratedTargets()) {
      hwy::DisableTargets(target - 1);
      compare(*host, hwy::TargetName(target) + std::string(", d ") + std::to_string(any.d));
    }
    hwy::DisableTargets(0);
  }
}

TEST(StoredAttention, IsRightForTheRoundedNumbers) {
  for (const auto& kernel : {make_host_kernel(), make_reference_kernel()})
    for (const AttentionCase& any : cases()) {
      const AttentionCase c = test::rounded_case(any);
      test::expect_close(test::run_kernel(*kernel, c), test::dense_attention<double>(c),
                         test::dense_attention<float>(c), 4, "d " + std::to_string(c.d));
    }
}

TEST(StoredAttentionDeathTest, OneOfThreeStoredOtherwiseIsRefused) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  std::vector<float> words(64);
  const auto view = [&](DType dtype) { return View(reinterpret_cast<std::byte*>(words.data()), {{4, 1, 8}, dtype}); };
  const MaskPlan mask = test::causal_mask(4);
  std::vector<float> lse(4);
  Ledger ledger;
  Arena scratch(Arena::Kind::pool, ledger);
  const auto forward = [&](AttentionKernel& kernel, DType q, DType k, DType v, DType out) {
    kernel.forward({view(q), view(k), view(v), mask, 1, {}}, view(out), view_of(std::span(lse)).reshape({4, 1}),
                   scratch);
  };
  using enum DType;
  for (const auto& kernel : {make_host_kernel(), make_reference_kernel()}) {
    EXPECT_DEATH(forward(*kernel, f32, bf16, bf16, f32), "k is bf16, not f32");
    EXPECT_DEATH(forward(*kernel, bf16, bf16, f32, f32), "v is f32, not bf16");
    EXPECT_DEATH(forward(*kernel, i32, i32, i32, f32), "q is i32, not f32 or bf16");
    EXPECT_DEATH(forward(*kernel, bf16, bf16, bf16, bf16), "out is bf16, not f32");
  }
  const auto self = make_self_communicator();
  const auto kernel = make_host_kernel();
  RingAttention ring(*self, *kernel, Pattern::causal());
  const test::LocalLine line(4);
  const RingPlan plan = ring.plan(line.map());
  Stream stream;
  EXPECT_DEATH(ring.forward(plan, view(bf16), view(bf16), view(f32), 1, view(f32),
                            view_of(std::span(lse)).reshape({4, 1}), scratch, stream),
               "q, k and v are bf16, bf16 and f32");
  EXPECT_DEATH(make_attention_group(*self, Pattern::causal(), nullptr, f64), "attention stores no f64");
}

// One forward and backward of self-attention whose projections only pick channels: q, k and v are x's own numbers.
struct Picked {
  std::vector<float> y, dx;
  Index saved = 0;
};

Picked pick(const std::vector<float>& x, DType storage) {
  constexpr Index tokens = 40, width = 24;
  constexpr AffineOptions plain{ops::WeightLayout::out_in, false, 0};
  const auto self = make_self_communicator();
  SelfAttentionOptions options{.heads = 4, .kv_heads = 2, .head_dim = 6, .inputs = {}, .output = {}};
  options.inputs = {make_affine("q", width, 24, plain), make_affine("k", width, 12, plain),
                    make_affine("v", width, 12, plain)};
  options.output = make_affine("o", 24, width, plain);
  SelfAttention attention(options, make_attention_group(*self, Pattern::causal(), nullptr, storage));
  Ledger ledger;
  Arena saved(Arena::Kind::stack, ledger), scratch(Arena::Kind::pool, ledger), pool(Arena::Kind::pool, ledger);
  WholeStore store(attention, pool);
  for (const ParameterPtr& parameter : store.parameters()) {
    const std::span<float> weight = store.weight(*parameter).flat<float>();
    for (Index row = 0; row < parameter->shape[0]; ++row)
      weight[static_cast<std::size_t>(row * width + row * 5 % width)] = 1;
  }
  const test::LocalLine line({17, 23}, {{{0, tokens}}}, 0);
  Stream stream;
  Context context{stream, saved, scratch, store, {}, line.map(), {}, nullptr, nullptr};
  Picked result{std::vector<float>(x.size()), std::vector<float>(x.size()), 0};
  const auto view = [](auto& words) { return view_of(std::span(words)).reshape({tokens, width}); };
  SavedPtr kept = attention.forward(context, Keep::all, view(x), view(result.y));
  result.saved = saved.live_bytes();
  attention.backward(context, std::move(kept), view(x), view(x), {view(result.dx)});
  return result;
}

TEST(StoredAttention, ProjectionsThatRoundingLeavesAloneGiveTheSameBits) {
  std::vector<float> x(40 * 24);
  std::mt19937 bits(3);
  std::normal_distribution<float> draw;
  for (float& value : x) value = widened(rounded(draw(bits)));
  const Picked wide = pick(x, DType::f32), narrow = pick(x, DType::bf16);
  EXPECT_EQ(narrow.y, wide.y);
  EXPECT_EQ(narrow.dx, wide.dx);
  EXPECT_EQ(wide.saved - narrow.saved, 40 * 48 * 2) << "half of q, k and v";
  for (float& value : x) value *= 1 + 0x1p-10f;
  EXPECT_NE(pick(x, DType::bf16).y, pick(x, DType::f32).y);
}

TEST(StoredAttention, AFamilyWithoutItRefuses) {
  const auto self = make_self_communicator();
  ModelShape shape{.family = Family::reformer, .layers = 2, .width = 32, .heads = 4, .positions = 64, .vocabulary = 19};
  shape.tied_head = default_tied_head(shape.family);
  EXPECT_NO_THROW(make_language_model(shape, *self));
  expect_error(ErrorCode::config, {"attention.storage: BF16", "reformer", "F32"},
               [&] { make_language_model(shape, *self, Pattern::causal(), Recompute::none, DType::bf16); });
}

// What is formed again for backward is rounded again to the same bits.
TEST(StoredAttention, RecomputingChangesNoBit) {
  const ModelShape shape = complete({.family = Family::llama,
                                     .layers = 2,
                                     .width = 32,
                                     .heads = 4,
                                     .kv_heads = 2,
                                     .positions = 64,
                                     .vocabulary = 19,
                                     .tied_head = false});
  std::vector<std::int32_t> tokens(50), labels(50);
  for (std::size_t i = 0; i < 50; ++i)
    tokens[i] = static_cast<std::int32_t>(i * i % 19), labels[i] = (tokens[i] * 3) % 19;
  const test::LocalLine line({20, 30}, {{{0, 50}}}, 0);
  const auto self = make_self_communicator();
  const auto run = [&](Recompute recompute, DType storage) {
    test::ModelRun model(shape, 7, *self, recompute, storage);
    model.step(line.map(), tokens, labels, 1);
    std::vector<float> gradients;
    for (const ParameterPtr& parameter : model.store().parameters()) {
      const auto part = model.store().gradient(*parameter).flat<float>();
      gradients.insert(gradients.end(), part.begin(), part.end());
    }
    return gradients;
  };
  const auto kept = run(Recompute::none, DType::bf16);
  EXPECT_EQ(run(Recompute::core, DType::bf16), kept);
  EXPECT_EQ(run(Recompute::all, DType::bf16), kept);
  EXPECT_NE(run(Recompute::none, DType::f32), kept);
}

}  // namespace
}  // namespace plasmid
