// Ops at the shapes of a 6-layer model of width 384 on 4096 tokens, one thread.
#include <omp.h>

#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "runtime/base/check.hpp"
#include "runtime/device/simd.hpp"
#include "runtime/ops/matmul.hpp"
#include "tests/bench/ceilings.hpp"

namespace plasmid::bench {
namespace {

constexpr Index kTokens = 4096;

std::vector<float> normal(Index n, unsigned seed) {
  std::mt19937 bits(seed);
  std::normal_distribution<float> draw;
  std::vector<float> values(static_cast<std::size_t>(n));
  for (float& value : values) value = draw(bits);
  return values;
}

View matrix(std::vector<float>& values, Index rows, Index columns) {
  return view_of(std::span(values)).reshape({rows, columns});
}

// One element against the same sum in f64: |error| <= length * eps * sum |a b|.
void check_element(float found, const float* a, Index a_step, const float* b, Index b_step, Index length) {
  double sum = 0, size = 0;
  for (Index i = 0; i < length; ++i) {
    const double term = static_cast<double>(a[i * a_step]) * b[i * b_step];
    sum += term, size += std::abs(term);
  }
  PLASMID_CHECK(std::abs(found - sum) <= static_cast<double>(length) * 0x1p-24 * size) << found << " for " << sum;
}

void linear(Index in, Index out, ops::WeightLayout layout) {
  Stream stream;
  const bool out_in = layout == ops::WeightLayout::out_in;
  std::vector<float> x = normal(kTokens * in, 1), w = normal(in * out, 2), bias(static_cast<std::size_t>(out)),
                     y = normal(kTokens * out, 3), dx(x.size()), dw(w.size());
  const View xs = matrix(x, kTokens, in), ys = matrix(y, kTokens, out), dxs = matrix(dx, kTokens, in);
  const View ws = out_in ? matrix(w, out, in) : matrix(w, in, out);
  const View dws = out_in ? matrix(dw, out, in) : matrix(dw, in, out);
  const double flops = 2.0 * static_cast<double>(kTokens * in * out);
  const std::string name = std::to_string(in) + " -> " + std::to_string(out) + (out_in ? " [out, in] " : " [in, out] ");
  const Index w_out = out_in ? in : 1, w_in = out_in ? 1 : out;  // strides of w

  ops::linear_input_gradient(ys, ws, layout, Write::overwrite, dxs, stream);
  check_element(dx[static_cast<std::size_t>(5 * in + 3)], &y[static_cast<std::size_t>(5 * out)], 1,
                &w[static_cast<std::size_t>(3 * w_in)], w_out, out);
  ops::linear_weight_gradient(xs, ys, layout, dws, {}, stream);
  check_element(dw[static_cast<std::size_t>(7 * w_in + 3 * w_out)], &x[7], in, &y[3], out, kTokens);
  report_flops(name + "input gradient", flops,
               [&] { ops::linear_input_gradient(ys, ws, layout, Write::overwrite, dxs, stream); });
  report_flops(name + "weight gradient", flops, [&] { ops::linear_weight_gradient(xs, ys, layout, dws, {}, stream); });
  const ConstView biases = view_of(std::span(bias));
  report_flops(name + "forward", flops, [&] { ops::linear_forward(xs, ws, layout, biases, ys, stream); });
  check_element(y[static_cast<std::size_t>(9 * out + 2)], &x[static_cast<std::size_t>(9 * in)], 1,
                &w[static_cast<std::size_t>(2 * w_out)], w_in, in);
}

int run() {
  omp_set_num_threads(1);
  std::printf("%s: FMA loop %.1f GFLOP/s, sgemm 1024^3 %.1f, triad %.1f GB/s\n", name_of(simd_in_use()).c_str(),
              fma_gflops(), sgemm_gflops(1024), triad_gbytes());
  for (const auto layout : {ops::WeightLayout::in_out, ops::WeightLayout::out_in})
    for (const auto& [in, out] : {std::pair<Index, Index>{384, 1152}, {384, 384}, {384, 1536}, {1536, 384}, {384, 256}})
      linear(in, out, layout);
  return 0;
}

}  // namespace
}  // namespace plasmid::bench

int main() { return plasmid::bench::run(); }
