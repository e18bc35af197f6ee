// Every kernel against dense matrices in f64. The odd sizes are where tails hide.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "attention/kernel/kernel.hpp"
#include "tests/support/attention_case.hpp"

namespace plasmid {
namespace {

using test::AttentionCase;
using test::AttentionResult;

struct Maker {
  const char* name;
  std::unique_ptr<AttentionKernel> (*make)();
};

void PrintTo(const Maker& maker, std::ostream* out) { *out << maker.name; }

class Kernel : public testing::TestWithParam<Maker> {
 protected:
  std::unique_ptr<AttentionKernel> kernel_ = GetParam().make();

  void expect_dense(const AttentionCase& c, const std::string& what) {
    test::expect_close(test::run_kernel(*kernel_, c), test::dense_attention<double>(c), test::dense_attention<float>(c),
                       4, what);
  }
};

TEST_P(Kernel, EqualsDenseMatricesForEveryHeadSize) {
  for (const Index d : {1, 3, 8, 16, 20, 32, 64, 80, 100, 128, 256, 520})
    expect_dense(test::random_case(test::causal_mask(131), 2, 2, d, static_cast<unsigned>(d)),
                 "d " + std::to_string(d));
}

TEST_P(Kernel, EqualsDenseMatricesForEveryLength) {
  for (const Index queries : {1, 2, 7, 16, 33, 95, 97, 200})
    for (const Index keys : {1, 5, 6, 12, 48, 95, 96, 97, 193})
      expect_dense(test::random_case(test::full_mask(queries, keys), 1, 1, 32, static_cast<unsigned>(queries * keys)),
                   std::to_string(queries) + " x " + std::to_string(keys));
}

TEST_P(Kernel, WindowsOfEveryShape) {
  for (const Index left : {0, 5, 47, 200})
    for (const Index right : {0, 1, 35, 100})
      expect_dense(test::random_case(test::window_mask(250, left, right), 1, 1, 24, 5),
                   std::to_string(left) + ", " + std::to_string(right));
}

TEST_P(Kernel, CausalOverSeveralBlocks) { expect_dense(test::random_case(test::causal_mask(900), 2, 1, 16, 3), ""); }

TEST_P(Kernel, GroupedQueryHeads) {
  for (const Index kv_heads : {1, 2, 3, 6})
    expect_dense(test::random_case(test::causal_mask(130), 6, kv_heads, 16, 11), std::to_string(kv_heads));
}

TEST_P(Kernel, UnorderedSpans) {  // a plan need not be monotone: rows of several samples and documents
  MaskPlan mask = test::full_mask(170, 230);
  std::mt19937 bits(4);
  for (KeySpan& span : mask.rows) {
    span.begin = static_cast<std::int32_t>(bits() % 230);
    span.end = span.begin + static_cast<std::int32_t>(bits() % static_cast<unsigned>(231 - span.begin));
  }
  expect_dense(test::random_case(std::move(mask), 2, 1, 32, 8), "");
}

TEST_P(Kernel, PaddedKeysAndEmptyRows) {
  MaskPlan mask = test::causal_mask(250);
  mask.key_valid.assign(250, 1);
  for (const std::size_t j : {0u, 1u, 2u, 17u, 100u, 101u, 249u}) mask.key_valid[j] = 0;
  mask.rows[40] = {7, 7};
  mask.rows[200] = {0, 3};  // only padding
  const AttentionCase c = test::random_case(std::move(mask), 2, 2, 32, 12);
  const auto got = test::run_kernel(*kernel_, c);
  for (const std::size_t row : {0u, 1u, 2u, 40u, 200u}) {
    EXPECT_EQ(got.lse[row * 2], -std::numeric_limits<float>::infinity()) << row;
    for (std::size_t x = 0; x < 64; ++x) {
      EXPECT_EQ(got.out[row * 64 + x], 0) << row;
      EXPECT_EQ(got.dq[row * 64 + x], 0) << row;
    }
  }
  expect_dense(c, "");
}

TEST_P(Kernel, LiveTiles) {
  for (const Index tile : {1, 5, 16, 64}) {
    MaskPlan mask = test::window_mask(210, 150, 30);
    mask.tile = tile;
    std::mt19937 bits(7);
    for (std::int32_t i = 0; i * tile < 210; ++i)
      for (std::int32_t j = 0; j * tile < 210; ++j)
        if (i != 3 && (bits() % 3 == 0 || j == i)) mask.tiles.push_back({i, j});
    if (tile == 16) mask.key_valid.assign(210, 1), mask.key_valid[33] = 0;
    expect_dense(test::random_case(std::move(mask), 2, 1, 32, 9), std::to_string(tile));
  }
}

TEST_P(Kernel, NothingToDo) {
  MaskPlan all_padding = test::full_mask(20, 30), no_tiles = test::full_mask(20, 30);
  all_padding.key_valid.assign(30, 0);
  no_tiles.tile = 16;
  for (const MaskPlan& mask :
       {all_padding, no_tiles, test::full_mask(0, 9), test::full_mask(9, 0), test::full_mask(0, 0)}) {
    const auto got = test::run_kernel(*kernel_, test::random_case(mask, 2, 1, 8, 1));
    for (const float x : got.lse) EXPECT_EQ(x, -std::numeric_limits<float>::infinity());
    for (const auto* zeros : {&got.out, &got.dq, &got.dk, &got.dv})
      for (const float x : *zeros) EXPECT_EQ(x, 0);
  }
}

TEST_P(Kernel, HugeScores) {  // the largest weight is one, the rest vanish; no infinity, no NaN
  for (const float sharpness : {20.0f, 1e4f, 1e15f}) {
    const AttentionCase c = test::random_case(test::causal_mask(150), 1, 1, 16, 21, sharpness);
    const auto got = test::run_kernel(*kernel_, c);
    for (const auto* tensor : {&got.out, &got.lse, &got.dq, &got.dk, &got.dv})
      for (const float x : *tensor) ASSERT_TRUE(std::isfinite(x)) << sharpness;
    if (sharpness == 20.0f) expect_dense(c, "");
  }
}

TEST_P(Kernel, ChunksMergeToTheWhole) {
  const AttentionCase c = test::random_case(test::causal_mask(240), 2, 1, 32, 6);
  const auto exact = test::dense_attention<double>(c);
  AttentionResult<float> got;
  got.out.assign(c.q.size(), 0), got.dq.assign(c.q.size(), 0);
  got.dk.assign(c.k.size(), 0), got.dv.assign(c.k.size(), 0);
  got.lse.resize(480);
  std::vector<float> delta(480);
  const auto query_view = [](const std::vector<float>& x) { return view_of(std::span(x)).reshape({240, 2, 32}); };
  const auto writable = [](std::vector<float>& x, const Shape& shape) { return view_of(std::span(x)).reshape(shape); };

  Ledger ledger;
  Arena scratch(Arena::Kind::pool, ledger);
  const Shape rows{240, 2}, per_query{240, 2, 32};
  const auto each_chunk = [&](auto&& body) {
    for (const auto& [begin, end] : {Range{170, 240}, Range{0, 1}, Range{1, 1}, Range{1, 170}}) {
      MaskPlan part = test::full_mask(240, end - begin);
      for (Index i = 0; i < 240; ++i) {
        const Index last = std::clamp<Index>(i + 1 - begin, 0, end - begin);
        part.rows[static_cast<std::size_t>(i)] = {0, static_cast<std::int32_t>(last)};
      }
      const auto key_view = [&](auto&& x) { return view_of(std::span(x)).reshape({240, 1, 32}).slice(0, begin, end); };
      body(Attend{query_view(c.q), key_view(c.k), key_view(c.v), part, c.scale, {}}, key_view(got.dk),
           key_view(got.dv));
    }
  };
  attention_start(writable(got.out, per_query), writable(got.lse, rows));
  each_chunk([&](const Attend& call, View, View) {
    kernel_->forward(call, writable(got.out, per_query), writable(got.lse, rows), scratch);
  });
  attention_delta(query_view(got.out), query_view(c.dout), writable(delta, rows));
  each_chunk([&](const Attend& call, View dk, View dv) {
    kernel_->backward(call, writable(got.lse, rows), writable(delta, rows), query_view(c.dout),
                      writable(got.dq, per_query), dk, dv, scratch);
  });
  test::expect_close(got, exact, test::dense_attention<float>(c), 4, "");
}

TEST_P(Kernel, ReadsOneProjectionBuffer) {  // q, k and v as column ranges of [tokens, (heads + 2 kv_heads) * d]
  const Index n = 100, heads = 4, kv_heads = 2, d = 16, width = (heads + 2 * kv_heads) * d;
  const AttentionCase c = test::random_case(test::causal_mask(n), heads, kv_heads, d, 31);
  std::vector<float> joined(static_cast<std::size_t>(n * width));
  const View all = view_of(std::span(joined)).reshape({n, width});
  const auto place = [&](const std::vector<float>& part, Index begin, Index part_heads) {
    const Index part_width = part_heads * d;
    for (Index i = 0; i < n; ++i)
      std::copy_n(part.begin() + i * part_width, part_width, joined.begin() + i * width + begin);
    return all.slice(1, begin, begin + part_width).reshape({n, part_heads, d});
  };
  const View q = place(c.q, 0, heads), k = place(c.k, heads * d, kv_heads);
  const View v = place(c.v, (heads + kv_heads) * d, kv_heads);
  std::vector<float> out(c.q.size()), lse(static_cast<std::size_t>(n * heads));
  const View out_view = view_of(std::span(out)).reshape({n, heads, d});
  const View lse_view = view_of(std::span(lse)).reshape({n, heads});
  Ledger ledger;
  Arena scratch(Arena::Kind::pool, ledger);
  attention_start(out_view, lse_view);
  kernel_->forward({q, k, v, c.mask, c.scale, {}}, out_view, lse_view, scratch);
  const auto apart = test::run_kernel(*kernel_, c);
  EXPECT_EQ(out, apart.out);
  EXPECT_EQ(lse, apart.lse);
}

TEST_P(Kernel, GradientsAreFiniteDifferences) {
  AttentionCase c = test::random_case(test::window_mask(60, 20, 3), 2, 1, 8, 17);
  const auto got = test::run_kernel(*kernel_, c);
  const auto loss = [&] {
    const auto exact = test::dense_attention<double>(c).out;
    return std::inner_product(exact.begin(), exact.end(), c.dout.begin(), 0.0);
  };
  std::mt19937 bits(5);
  std::normal_distribution<float> draw(0, 1);
  const auto along = [&](std::vector<float>& tensor, const std::vector<float>& gradient, const char* name) {
    const std::vector<float> saved = tensor;
    std::vector<float> direction(tensor.size());
    double slope = 0, size = 0;
    for (std::size_t i = 0; i < tensor.size(); ++i) {
      // A step of 2^-10 moves each float by whole ulps, so that the difference is of exact inputs.
      direction[i] = std::round(draw(bits) * 8) / 8192;
      tensor[i] = saved[i] + direction[i], direction[i] = tensor[i] - saved[i];
      slope += static_cast<double>(gradient[i]) * direction[i];
      size += std::abs(static_cast<double>(gradient[i]) * direction[i]);
    }
    const double above = loss();
    for (std::size_t i = 0; i < tensor.size(); ++i) tensor[i] = saved[i] - direction[i];
    const double below = loss();
    tensor = saved;
    // Third-order term of the central difference: the step is about 2^-10, cubed relative to the terms' size.
    EXPECT_NEAR((above - below) / 2, slope, 1e-5 * size) << name;
  };
  along(c.q, got.dq, "dq");
  along(c.k, got.dk, "dk");
  along(c.v, got.dv, "dv");
}

INSTANTIATE_TEST_SUITE_P(All, Kernel,
                         testing::Values(Maker{"reference", make_reference_kernel}, Maker{"host", make_host_kernel}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace plasmid
