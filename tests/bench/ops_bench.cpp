// Ops at the shapes of a 6-layer model of width 384 on 4096 tokens, one thread.
//   bench_ops [SSE4 | AVX2 | AVX-512]   (the widest)
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <string_view>
#include <vector>

#include "runtime/base/check.hpp"
#include "runtime/device/simd.hpp"
#include "runtime/ops/activation.hpp"
#include "runtime/ops/cross_entropy.hpp"
#include "runtime/ops/embedding.hpp"
#include "runtime/ops/matmul.hpp"
#include "runtime/ops/norm.hpp"
#include "runtime/ops/rope.hpp"
#include "runtime/optim/optimizer.hpp"
#include "tests/bench/report.hpp"

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

// Results of the memory-bound ops are compared with their definitions, on the same inputs: within a millionth of the
// largest value.
void check_close(const std::vector<float>& found, const std::vector<float>& wanted, const char* what) {
  double largest = 0, apart = 0;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    largest = std::max(largest, std::abs(static_cast<double>(wanted[i])));
    apart = std::max(apart, std::abs(static_cast<double>(found[i]) - wanted[i]));
  }
  PLASMID_CHECK(found.size() == wanted.size() && apart <= 1e-6 * largest) << what << " is off by " << apart;
}

double bytes(Index streams, Index width) { return static_cast<double>(streams * kTokens * width) * sizeof(float); }

void norms(Index width) {
  Stream stream;
  std::vector<float> x = normal(kTokens * width, 1), dy = normal(kTokens * width, 2), gain = normal(width, 3),
                     y(x.size()), wanted(x.size()), mean(kTokens), rstd(kTokens), dgain(gain.size()),
                     dbias(gain.size());
  const View xs = matrix(x, kTokens, width), dys = matrix(dy, kTokens, width), ys = matrix(y, kTokens, width);
  const View g = view_of(std::span(gain)), m = view_of(std::span(mean)), r = view_of(std::span(rstd)),
             dg = view_of(std::span(dgain)), db = view_of(std::span(dbias));
  const auto forward = [&] { ops::layer_norm_forward(xs, g, g, 1e-5f, ys, m, r, stream); };
  forward();
  ops::ref::layer_norm_forward(xs, g, g, 1e-5f, matrix(wanted, kTokens, width), {}, {});
  check_close(y, wanted, "layer norm");
  report_bytes("layer norm forward", bytes(2, width), forward);
  report_bytes("layer norm backward", bytes(3, width),
               [&] { ops::layer_norm_backward(xs, g, m, r, dys, Write::overwrite, ys, dg, db, stream); });
  report_bytes("RMS norm forward", bytes(2, width), [&] { ops::rms_norm_forward(xs, g, 1e-5f, ys, r, stream); });
  report_bytes("RMS norm backward", bytes(3, width),
               [&] { ops::rms_norm_backward(xs, g, r, dys, Write::overwrite, ys, dg, stream); });
}

void activations(Index width) {
  Stream stream;
  std::vector<float> x = normal(kTokens * width, 1), dy = normal(kTokens * width, 2), y(x.size()), z(x.size());
  const View xs = matrix(x, kTokens, width), dys = matrix(dy, kTokens, width), ys = matrix(y, kTokens, width),
             zs = matrix(z, kTokens, width);
  for (const auto& [kind, name] :
       {std::pair{ops::Activation::gelu_tanh, "GELU (tanh)"}, {ops::Activation::gelu_erf, "GELU (erf)"}}) {
    const auto forward = [&, kind = kind] { ops::activation_forward(xs, kind, ys, stream); };
    forward();
    ops::ref::activation_forward(xs, kind, zs);
    check_close(y, z, name);
    report_bytes(std::string(name) + " forward", bytes(2, width), forward);
    report_bytes(std::string(name) + " backward", bytes(3, width),
                 [&, kind = kind] { ops::activation_backward(xs, kind, dys, Write::overwrite, ys, stream); });
  }
  report_bytes("SwiGLU forward", bytes(3, width), [&] { ops::swiglu_forward(xs, dys, ys, stream); });
  report_bytes("SwiGLU backward", bytes(5, width), [&] { ops::swiglu_backward(xs, dys, dys, ys, zs, stream); });
}

void losses(Index tokens, Index vocabulary) {
  Stream stream;
  std::vector<float> x = normal(tokens * vocabulary, 1), lse(static_cast<std::size_t>(tokens)), exact(lse.size());
  std::vector<std::int32_t> labels(lse.size(), 3);
  const View xs = matrix(x, tokens, vocabulary), l = view_of(std::span(lse));
  const ConstView label = view_of(std::span(labels));
  const std::string name = "cross-entropy of " + std::to_string(vocabulary);
  const double once = static_cast<double>(x.size()) * sizeof(float);
  const auto forward = [&] { ops::cross_entropy_forward(xs, label, l, stream); };
  forward();
  ops::ref::cross_entropy_forward(xs, label, view_of(std::span(exact)));
  check_close(lse, exact, name.c_str());
  report_bytes(name + " forward", once, forward);
  report_bytes(name + " backward", 2 * once, [&] { ops::cross_entropy_backward(xs, label, l, 1e-3f, stream); });
}

void lookups(Index width) {
  Stream stream;
  std::vector<float> table = normal(5 * width, 1), dy = normal(kTokens * width, 2), exact(table.size());
  std::vector<std::int32_t> index(kTokens), position(kTokens);
  for (std::size_t t = 0; t < index.size(); ++t)
    index[t] = static_cast<std::int32_t>(t * t % 5), position[t] = static_cast<std::int32_t>(t);
  const ConstView indices = view_of(std::span(index)), positions = view_of(std::span(position));
  const View dys = matrix(dy, kTokens, width);
  std::vector<float> dtable(table.size());
  ops::embedding_backward(indices, dys, matrix(dtable, 5, width), stream);
  ops::ref::embedding_backward(indices, dys, matrix(exact, 5, width));
  check_close(dtable, exact, "embedding");
  report_bytes("embedding forward", bytes(2, width),
               [&] { ops::embedding_forward(indices, matrix(table, 5, width), Write::overwrite, dys, stream); });
  report_bytes("embedding backward, 5 rows", bytes(3, width),
               [&] { ops::embedding_backward(indices, dys, matrix(dtable, 5, width), stream); });
  for (const Index rows : {256, 50257}) {  // bytes; a vocabulary of words
    std::vector<float> large(static_cast<std::size_t>(rows * width));
    for (std::size_t t = 0; t < index.size(); ++t)
      index[t] = static_cast<std::int32_t>(t * 2654435761u % static_cast<std::size_t>(rows));
    report_bytes("embedding backward, " + std::to_string(rows) + " rows", bytes(3, width),
                 [&] { ops::embedding_backward(indices, dys, matrix(large, rows, width), stream); });
  }
  const View heads = view_of(std::span(dy)).reshape({kTokens, width / 64, 64});
  report_bytes("RoPE", bytes(2, width), [&] { ops::rope(heads, positions, 10000, false, stream); });
}

void optimizer(Index count) {
  std::vector<float> p = normal(count, 1), g = normal(count, 2), m(p.size()), v(p.size());
  const double once = static_cast<double>(count) * sizeof(float);
  Index step = 0;
  report_bytes("AdamW", 8 * once, [&] { adamw_step({}, ++step, 1e-3f, p, g, m, v); });
  report_bytes("sum of squares", once, [&] { PLASMID_CHECK(sum_of_squares(p) > 0); });
}

int run(std::string_view limit) {
  omp_set_num_threads(1);
  for (const Simd level : {Simd::sse4, Simd::avx2, Simd::avx512})
    if (limit == name_of(level)) limit_simd(level);
  const Ceilings top = measure_ceilings(1);
  std::printf("%s: FMA loop %.1f GFLOP/s, sgemm 1024^3 %.1f, triad %.1f GB/s\n", name_of(simd_in_use()).c_str(),
              top.fma * 1e-9, top.sgemm * 1e-9, top.triad * 1e-9);
  for (const auto layout : {ops::WeightLayout::in_out, ops::WeightLayout::out_in})
    for (const auto& [in, out] : {std::pair<Index, Index>{384, 1152}, {384, 384}, {384, 1536}, {1536, 384}, {384, 256}})
      linear(in, out, layout);
  norms(384);
  activations(1536);
  losses(kTokens, 256);
  losses(128, 50'257);
  lookups(384);
  optimizer(10'000'000);
  return 0;
}

}  // namespace
}  // namespace plasmid::bench

int main(int argc, char** argv) { return plasmid::bench::run(argc > 1 ? argv[1] : ""); }
