#include "runtime/device/simd.hpp"

#include <dnnl.h>

#include <cmath>
#include <cstdlib>

#include "runtime/ops/activation.hpp"
#include "runtime/ops/cross_entropy.hpp"
#include "runtime/ops/matmul.hpp"
#include "runtime/ops/norm.hpp"
#include "runtime/ops/rope.hpp"
#include "runtime/optim/optimizer.hpp"
#include "tests/support/padded.hpp"

namespace plasmid {
namespace {

using test::Padded;

std::vector<Simd> levels() {
  std::vector<Simd> result = {Simd::baseline};
  for (const Simd level : {Simd::sse4, Simd::avx2, Simd::avx512})
    if (level <= widest_simd()) result.push_back(level);
  return result;
}

struct Level {  // puts the widest back
  explicit Level(Simd simd) { limit_simd(simd); }
  ~Level() { limit_simd(Simd::avx512); }
};

// One result of every kernel that goes through Highway, in one row.
std::vector<double> run_kernels() {
  Stream stream;
  const Shape size{9, 77};
  const Padded x = Padded::normal(size, 1), dy = Padded::normal(size, 2), gain = Padded::normal({77}, 3);
  std::vector<double> results;
  const auto keep = [&](const Padded& tensor) {
    for (Index t = 0; t < tensor.rows(); ++t)
      for (Index c = 0; c < tensor.width(); ++c) results.push_back(tensor.at(t, c));
  };
  Padded y(size), mean({9}), rstd({9}), dx(size), dgain({77}), dbias({77});
  ops::layer_norm_forward(x.view(), gain.view(), gain.view(), 1e-5f, y.view(), mean.view(), rstd.view(), stream);
  keep(y);
  ops::layer_norm_backward(x.view(), gain.view(), mean.view(), rstd.view(), dy.view(), Write::overwrite, dx.view(),
                           dgain.view(), dbias.view(), stream);
  keep(dx), keep(dgain), keep(dbias);
  for (const ops::Activation kind : {ops::Activation::gelu_tanh, ops::Activation::gelu_erf}) {
    ops::activation_forward(x.view(), kind, y.view(), stream);
    ops::activation_backward(x.view(), kind, dy.view(), Write::overwrite, dx.view(), stream);
    keep(y), keep(dx);
  }
  ops::swiglu_forward(x.view(), dy.view(), y.view(), stream);
  keep(y);
  const std::vector<std::int32_t> labels = {0, 76, -1, 5, 6, 7, 8, 9, 10};
  Padded logits = x, lse({9});
  results.push_back(ops::cross_entropy_forward(logits.view(), view_of(std::span(labels)), lse.view(), stream));
  ops::cross_entropy_backward(logits.view(), view_of(std::span(labels)), lse.view(), 1, stream);
  keep(logits);
  Padded heads = Padded::normal({9, 2, 34}, 4);
  const std::vector<std::int32_t> positions = {0, 1, 2, 3, 1000, 10'000'000, 4, 5, 6};
  ops::rope(heads.view(), view_of(std::span(positions)), 10000, false, stream);
  keep(heads);
  std::vector<float> p(100, 1.0f), g(100, 0.5f), m(100), v(100);
  results.push_back(sum_of_squares(g));
  adamw_step({}, 1, 1, p, g, m, v);
  results.insert(results.end(), p.begin(), p.end());
  return results;
}

// Wider vectors change the order of sums and what is fused, nothing else: sums of 77 terms of size about 1 (and one of
// 77 exponentials), a handful of roundings elsewhere, by factors of at most 2^4.
TEST(Simd, EveryLevelComputesTheSame) {
  const std::vector<double> widest = run_kernels();
  for (const Simd level : levels()) {
    const Level limited(level);
    EXPECT_LE(simd_in_use(), level);
    const std::vector<double> results = run_kernels();
    ASSERT_EQ(results.size(), widest.size());
    if (simd_in_use() != widest_simd()) {
      EXPECT_NE(results, widest) << name_of(level) << " gives the same bits: was it used at all?";
    }
    for (std::size_t i = 0; i < results.size(); ++i)
      ASSERT_NEAR(results[i], widest[i], 77 * 16 * test::kHalfUlp * (1 + std::abs(widest[i])))
          << name_of(level) << ", result " << i;
  }
  EXPECT_EQ(simd_in_use(), widest_simd());
}

TEST(Simd, ALimitAboveTheMachineChangesNothing) {
  limit_simd(Simd::avx512);
  EXPECT_EQ(simd_in_use(), widest_simd());
  EXPECT_EQ(run_kernels(), run_kernels());
}

TEST(Simd, LevelsHaveNames) {
  EXPECT_EQ(name_of(Simd::baseline), "baseline");
  EXPECT_EQ(name_of(Simd::sse4), "SSE4");
  EXPECT_EQ(name_of(Simd::avx2), "AVX2");
  EXPECT_EQ(name_of(Simd::avx512), "AVX-512");
}

dnnl_cpu_isa_t dnnl_isa_of(Simd level) {
  if (level == Simd::avx512) return dnnl_cpu_isa_avx512_core;
  return level == Simd::avx2 ? dnnl_cpu_isa_avx2 : dnnl_cpu_isa_sse41;
}

// 0: a product is right and oneDNN keeps to the limit.
int check_product(Simd level) {
  limit_simd(level);
  Stream stream;
  const Padded x = Padded::normal({50, 65}, 1), w = Padded::normal({65, 33}, 2);
  Padded y({50, 33}), exact({50, 33}), sizes({50, 33});
  ops::linear_forward(x.view(), w.view(), ops::WeightLayout::in_out, {}, y.view(), stream);
  ops::ref::linear_forward(x.view(), w.view(), ops::WeightLayout::in_out, {}, exact.view());
  ops::ref::linear_forward(x.magnitudes().view(), w.magnitudes().view(), ops::WeightLayout::in_out, {}, sizes.view());
  test::expect_within(
      y, exact, [&](Index r, Index c) { return 68 * test::kHalfUlp * sizes.at(r, c); }, "product");
  if (testing::Test::HasFailure()) return 1;
  return dnnl_get_effective_cpu_isa() == dnnl_isa_of(level) ? 0 : 2;
}

// oneDNN fixes its instruction set at the first product, hence one process for each.
TEST(SimdDeathTest, LimitsProductsToo) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  for (const Simd level : levels())
    EXPECT_EXIT(std::exit(check_product(level)), testing::ExitedWithCode(0), "") << name_of(level);
}

}  // namespace
}  // namespace plasmid
