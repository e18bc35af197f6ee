// Causal attention on one thread, tile kernels only: q, k and v lie in one projection's output, as in a model. FLOPs
// are those of the pairs that the mask admits, 4 d a pair forward and 10 d backward, two of them recomputing no score
// twice.
#include <omp.h>

#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "attention/kernel/kernel.hpp"
#include "runtime/device/simd.hpp"
#include "tests/bench/ceilings.hpp"

namespace plasmid::bench {
namespace {

class Problem {
 public:
  Problem(Index n, Index heads, Index d) : n_(n), heads_(heads), d_(d), line_{{0, n}} {
    mask_.queries = mask_.keys = n;
    for (Index i = 0; i < n; ++i) mask_.rows.push_back({0, static_cast<std::int32_t>(i + 1)});
    std::mt19937 bits(1);
    std::normal_distribution<float> draw;
    for (std::vector<float>* tensor : {&qkv_, &dout_}) {
      tensor->resize(static_cast<std::size_t>(n * heads * d * (tensor == &qkv_ ? 3 : 1)));
      for (float& x : *tensor) x = draw(bits);
    }
    for (std::vector<float>* tensor : {&out_, &dq_, &dk_, &dv_}) tensor->resize(dout_.size());
    lse_.resize(static_cast<std::size_t>(n * heads)), delta_.resize(lse_.size());
  }

  void forward() {
    attention_start(rows(out_), row_numbers(lse_));
    kernel_->forward(call(), rows(out_), row_numbers(lse_), scratch_);
  }
  void backward() {
    attention_delta(rows(out_), rows(dout_), row_numbers(delta_));
    kernel_->backward(call(), row_numbers(lse_), row_numbers(delta_), rows(dout_), rows(dq_), rows(dk_), rows(dv_),
                      scratch_);
  }

  // Some rows of out and dq, and one of dv, against sums in f64; errors of sums of n terms near one, relative to them.
  void check() {
    for (std::vector<float>* gradient : {&dq_, &dk_, &dv_}) std::fill(gradient->begin(), gradient->end(), 0.0f);
    forward(), backward();
    const double tolerance = std::sqrt(static_cast<double>(n_)) * 0x1p-22;
    for (const Index i : {Index{0}, Index{1}, n_ / 2, n_ - 1}) {
      std::vector<double> out(static_cast<std::size_t>(d_)), dq(out);
      double total = 0;
      for (Index j = 0; j <= i; ++j) total += std::exp(score(i, j));
      PLASMID_CHECK(std::abs(std::log(total) - lse_[at(i * heads_)]) < tolerance) << "lse of row " << i;
      for (Index j = 0; j <= i; ++j) {
        const double p = std::exp(score(i, j)) / total;
        const double ds = p * (dot(part(0, i, dout_), part(2, j)) - delta_[at(i * heads_)]);
        for (Index c = 0; c < d_; ++c) out[at(c)] += p * part(2, j)[c], dq[at(c)] += scale() * ds * part(1, j)[c];
      }
      for (Index c = 0; c < d_; ++c) {
        PLASMID_CHECK(std::abs(out[at(c)] - out_[at(i * heads_ * d_ + c)]) < tolerance) << "out of row " << i;
        PLASMID_CHECK(std::abs(dq[at(c)] - dq_[at(i * heads_ * d_ + c)]) < tolerance) << "dq of row " << i;
      }
    }
    const Index j = n_ / 3;
    double dv = 0;
    for (Index i = j; i < n_; ++i) dv += std::exp(score(i, j) - lse_[at(i * heads_)]) * part(0, i, dout_)[0];
    PLASMID_CHECK(std::abs(dv - dv_[at(j * heads_ * d_)]) < tolerance) << "dv of key " << j;
  }

  void drop(double probability) { dropout_.mask = {1, dropped_of_65536(probability)}; }

  double pair_flops() const {
    return static_cast<double>(n_) * static_cast<double>(n_ + 1) / 2 * static_cast<double>(heads_ * d_);
  }

 private:
  static std::size_t at(Index i) { return static_cast<std::size_t>(i); }
  float scale() const { return 1 / std::sqrt(static_cast<float>(d_)); }
  View rows(std::vector<float>& x) { return view_of(std::span(x)).reshape({n_, heads_, d_}); }
  View row_numbers(std::vector<float>& x) { return view_of(std::span(x)).reshape({n_, heads_}); }
  Attend call() {
    const Index width = heads_ * d_;
    const View all = view_of(std::span(qkv_)).reshape({n_, 3 * width});
    const auto columns = [&](Index i) { return all.slice(1, i * width, (i + 1) * width).reshape({n_, heads_, d_}); };
    return {columns(0), columns(1), columns(2), mask_, scale(), {}, dropout_.mask ? &dropout_ : nullptr};
  }
  // Row i of q (0), k (1) or v (2), head 0.
  const float* part(Index which, Index i) const { return &qkv_[at((i * 3 + which) * heads_ * d_)]; }
  const float* part(Index, Index i, const std::vector<float>& plain) const { return &plain[at(i * heads_ * d_)]; }
  double dot(const float* a, const float* b) const {
    double sum = 0;
    for (Index c = 0; c < d_; ++c) sum += static_cast<double>(a[c]) * b[c];
    return sum;
  }
  double score(Index i, Index j) const { return scale() * dot(part(0, i), part(1, j)); }

  Index n_, heads_, d_;
  MaskPlan mask_;
  std::vector<float> qkv_, dout_, out_, dq_, dk_, dv_, lse_, delta_;
  std::vector<Range> line_;
  AttentionDropout dropout_{{}, line_, line_, 0};
  Ledger ledger_;
  Arena scratch_{Arena::Kind::pool, ledger_};
  std::unique_ptr<AttentionKernel> kernel_ = make_host_kernel();
};

void measure(Index n, Index heads, Index d) {
  Problem problem(n, heads, d);
  problem.check();
  const std::string name = "causal N " + std::to_string(n) + ", " + std::to_string(heads) + " x " + std::to_string(d);
  report_flops(name + " forward", 4 * problem.pair_flops(), [&] { problem.forward(); });
  report_flops(name + " backward", 10 * problem.pair_flops(), [&] { problem.backward(); });
  report_flops(name + " both", 14 * problem.pair_flops(), [&] { problem.forward(), problem.backward(); });
  problem.drop(0.1);
  report_flops(name + " forward, dropout", 4 * problem.pair_flops(), [&] { problem.forward(); });
  report_flops(name + " backward, dropout", 10 * problem.pair_flops(), [&] { problem.backward(); });
}

int run() {
  omp_set_num_threads(1);
  for (const Simd simd : {Simd::avx512, Simd::avx2, Simd::sse4}) {  // a limit only ever narrows
    if (simd > widest_simd()) continue;
    limit_simd(simd);
    std::printf("%s: FMA loop %.1f GFLOP/s\n", name_of(simd_in_use()).c_str(), fma_gflops());
    for (const Index d : {64, 128})
      for (const Index n : {2048, 8192}) measure(n, 1, d);
    measure(2048, 6, 64);
    if (simd == Simd::avx2) break;  // SSE4 only where nothing wider is there
  }
  return 0;
}

}  // namespace
}  // namespace plasmid::bench

int main() { return plasmid::bench::run(); }
