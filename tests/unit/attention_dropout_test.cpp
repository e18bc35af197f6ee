// Dropout of attention weights in the kernels, against dense matrices under the mask's definition.
#include <gtest/gtest.h>

#include <algorithm>

#include "parallel/comm/self.hpp"
#include "runtime/device/simd.hpp"
#include "tests/support/attention_case.hpp"
#include "tests/support/local_line.hpp"
#include "tests/support/model_run.hpp"

namespace plasmid {
namespace {

using test::AttentionCase;

// Tokens in two stretches, as a holder has in zigzag order; neither begins where a Philox block does.
AttentionCase with_dropout(AttentionCase c, double probability) {
  c.dropout = {77, dropped_of_65536(probability)};
  c.query_tokens = {{13, 13 + c.queries / 3}, {700, 700 + c.queries - c.queries / 3}};
  c.key_tokens = {{5, 5 + c.keys / 2}, {901, 901 + c.keys - c.keys / 2}};
  c.first_token = (Index{1} << 32) - 30;  // tokens cross 32 bits
  return c;
}

std::vector<AttentionCase> cases() {
  std::vector<AttentionCase> result;
  for (const double probability : {0.1, 0.5}) {
    result.push_back(with_dropout(test::random_case(test::causal_mask(231), 2, 2, 16, 1), probability));
    result.push_back(with_dropout(test::random_case(test::full_mask(70, 130), 6, 2, 12, 2), probability));
    result.push_back(with_dropout(test::random_case(test::window_mask(150, 40, 9), 3, 1, 8, 3), probability));
  }
  result[1].mask.key_valid.assign(130, 1);
  for (std::size_t j = 0; j < 130; j += 4) result[1].mask.key_valid[j] = 0;
  return result;
}

void expect_definition(AttentionKernel& kernel, const std::string& what) {
  for (const AttentionCase& c : cases())
    test::expect_close(test::run_kernel(kernel, c), test::dense_attention<double>(c), test::dense_attention<float>(c),
                       4, what);
}

TEST(AttentionDropout, TheReferenceKernelEqualsDenseMatrices) {
  expect_definition(*make_reference_kernel(), "reference");
}

TEST(AttentionDropout, TheHostKernelEqualsDenseMatricesAtEveryInstructionSet) {
  for (const Simd simd : {Simd::sse4, Simd::avx2, Simd::avx512}) {
    if (simd > widest_simd()) continue;
    limit_simd(simd);
    expect_definition(*make_host_kernel(), name_of(simd));
  }
  limit_simd(Simd::avx512);
}

// Equal scores and unit values, one channel a key: out shows which pairs were kept, one by one.
TEST(AttentionDropout, EveryPairIsDroppedAsItsPlaceSays) {
  constexpr Index kTokens = 100;
  AttentionCase c = with_dropout(test::random_case(test::full_mask(kTokens, kTokens), 2, 1, kTokens, 5), 0.4);
  std::ranges::fill(c.q, 0.0f), std::ranges::fill(c.v, 0.0f);
  for (Index j = 0; j < kTokens; ++j) c.v[static_cast<std::size_t>(j * kTokens + j)] = 1;
  for (const auto& kernel : {make_reference_kernel(), make_host_kernel()}) {
    const auto result = test::run_kernel(*kernel, c);
    for (Index i = 0; i < kTokens; ++i)
      for (Index h = 0; h < 2; ++h)
        for (Index j = 0; j < kTokens; ++j)
          ASSERT_EQ(result.out[static_cast<std::size_t>((i * 2 + h) * kTokens + j)] != 0, c.kept(i, h, j) != 0)
              << i << ", " << h << ", " << j;
  }
}

TEST(AttentionDropout, AMaskThatDropsNothingChangesNoBit) {
  const AttentionCase plain = test::random_case(test::causal_mask(200), 2, 1, 16, 4);
  AttentionCase off = with_dropout(plain, 0.1);
  off.dropout.dropped = 0;
  const auto kernel = make_host_kernel();
  const auto a = test::run_kernel(*kernel, plain), b = test::run_kernel(*kernel, off);
  EXPECT_EQ(a.out, b.out);
  EXPECT_EQ(a.lse, b.lse);
  EXPECT_EQ(a.dq, b.dq);
  EXPECT_EQ(a.dk, b.dk);
  EXPECT_EQ(a.dv, b.dv);
}

TEST(AttentionDropout, AModelThatDoesNotTrainDropsNothing) {
  const auto self = make_self_communicator();
  const std::vector<std::int32_t> tokens = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5},
                                  labels = {1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8};
  const test::LocalLine line(11);
  for (const Family family : {Family::gpt2, Family::llama}) {
    ModelShape shape{.family = family, .layers = 2, .width = 16, .heads = 2, .positions = 16, .vocabulary = 10};
    test::ModelRun plain(shape, 1, *self);
    shape.dropout = 0.5;
    test::ModelRun dropping(shape, 1, *self);
    EXPECT_EQ(dropping.logits(line.map(), tokens), plain.logits(line.map(), tokens));
    EXPECT_EQ(dropping.step(line.map(), tokens, labels, 1).sum, plain.step(line.map(), tokens, labels, 1).sum);
    EXPECT_TRUE(std::ranges::equal(dropping.store().gradients(), plain.store().gradients()));
  }
}

}  // namespace
}  // namespace plasmid
