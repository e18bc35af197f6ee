// Kernels against results and gradients that PyTorch computed in f64, one case per pattern.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "attention/kernel/kernel.hpp"
#include "runtime/io/safetensors.hpp"
#include "tests/support/attention_case.hpp"
#include "tests/support/reference.hpp"

namespace plasmid {
namespace {

constexpr Index kBlock = 16;  // of block_sparse

// One sample of [batch, heads, rows, d] (or [batch, heads, rows], d = 1) as [rows, heads, d].
template <class T>
std::vector<T> rows_first(const ConstView& tensor, Index sample) {
  const Index heads = tensor.dim(1), rows = tensor.dim(2), d = tensor.shape.rank == 4 ? tensor.dim(3) : 1;
  const T* from = tensor.ptr<T>() + sample * heads * rows * d;
  std::vector<T> to(static_cast<std::size_t>(heads * rows * d));
  for (Index h = 0; h < heads; ++h)
    for (Index i = 0; i < rows; ++i) std::copy_n(from + (h * rows + i) * d, d, to.begin() + (i * heads + h) * d);
  return to;
}

// The plan that says the same as the stored matrix: its tiles where it is block-sparse, its padding, else its spans.
MaskPlan plan_of(const SafetensorsFile& file, const std::string& name, Index sample) {
  const ConstView allowed = file.tensor("allowed");
  const Index n = allowed.dim(1);
  const std::uint8_t* pairs = allowed.ptr<std::uint8_t>() + (allowed.dim(0) == 1 ? 0 : sample) * n * n;
  MaskPlan plan = test::full_mask(n, n);
  if (name == "block_sparse") {
    plan.tile = kBlock;
    for (Index i = 0; i < n; i += kBlock)
      for (Index j = 0; j < n; j += kBlock)
        if (pairs[i * n + j])
          plan.tiles.push_back({static_cast<std::int32_t>(i / kBlock), static_cast<std::int32_t>(j / kBlock)});
  } else if (file.contains("key_valid")) {
    plan = test::causal_mask(n);
    const auto* valid = file.tensor("key_valid").ptr<std::uint8_t>() + sample * n;
    plan.key_valid.assign(valid, valid + n);
  } else {
    for (Index i = 0; i < n; ++i) {
      const std::uint8_t* row = pairs + i * n;
      const auto first = std::find(row, row + n, 1), last = std::find(first, row + n, 0);
      plan.rows[static_cast<std::size_t>(i)] = {static_cast<std::int32_t>(first - row),
                                                static_cast<std::int32_t>(last - row)};
    }
  }
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < n; ++j) EXPECT_EQ(plan.allows(i, j), pairs[i * n + j] != 0) << name << " " << i << ", " << j;
  return plan;
}

TEST(AttentionPatterns, EqualPyTorch) {
  PLASMID_SKIP_WITHOUT_REFERENCE();
  for (const std::string name : {"full", "causal", "causal_odd", "window_causal", "window_both", "grouped_causal",
                                 "documents", "empty_rows", "large_scores", "block_sparse"}) {
    const SafetensorsFile file(reference_folder() / "attention_patterns" / (name + ".safetensors"));
    const ConstView q = file.tensor("q"), k = file.tensor("k");
    for (Index sample = 0; sample < q.dim(0); ++sample) {
      test::AttentionCase c;
      c.queries = q.dim(2), c.keys = k.dim(2), c.heads = q.dim(1), c.kv_heads = k.dim(1), c.d = q.dim(3);
      c.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(c.d)));
      c.mask = plan_of(file, name, sample);
      c.q = rows_first<float>(q, sample), c.k = rows_first<float>(k, sample);
      c.v = rows_first<float>(file.tensor("v"), sample), c.dout = rows_first<float>(file.tensor("dout"), sample);
      const auto stored = [&](const char* tensor) { return rows_first<double>(file.tensor(tensor), sample); };
      const test::AttentionResult<double> exact{
          stored("out"), stored("lse"), stored("dq"), stored("dk"), stored("dv"), 0, 0};
      const auto plain = test::dense_attention<float>(c);
      for (const auto& make : {make_reference_kernel, make_host_kernel})
        test::expect_close(test::run_kernel(*make(), c), exact, plain, 4, name);
    }
  }
}

}  // namespace
}  // namespace plasmid
