#pragma once
#include <memory>
#include <vector>

#include "attention/kernel/kernel.hpp"

namespace plasmid::bench {

MaskPlan causal(Index n);

// Attention of one rank, tile kernels only: q, k and v lie in one projection's output, as in a model.
class AttentionProblem {
 public:
  // A mask of spans alone. Storage: of q, k and v, rounded where it is bf16.
  AttentionProblem(MaskPlan mask, Index heads, Index kv_heads, Index d, DType storage = DType::f32);
  AttentionProblem(const AttentionProblem&) = delete;
  AttentionProblem& operator=(const AttentionProblem&) = delete;

  void forward();
  void backward();
  void drop(double probability) { dropout_.mask = {1, dropped_of_65536(probability)}; }

  void check();  // some rows of out, lse and dq, and one element of dv, against sums in f64
  // Multiplications of one product over the pairs that the mask admits: 4 of these forward, 10 backward are its FLOPs,
  // two of them recomputing no score twice.
  double products() const { return static_cast<double>(mask_.pairs()) * static_cast<double>(heads_ * d_); }

 private:
  static std::size_t at(Index i) { return static_cast<std::size_t>(i); }
  View rows(std::vector<float>& x) { return view_of(std::span(x)).reshape({n_, heads_, d_}); }
  View key_rows(std::vector<float>& x) { return view_of(std::span(x)).reshape({n_, kv_heads_, d_}); }
  View row_numbers(std::vector<float>& x) { return view_of(std::span(x)).reshape({n_, heads_}); }
  Index width() const { return (heads_ + 2 * kv_heads_) * d_; }
  Attend call();
  // Row i of q, k or v, of one head.
  const float* query(Index i, Index head) const { return &qkv_[at(i * width() + head * d_)]; }
  const float* key(Index j) const { return &qkv_[at(j * width() + heads_ * d_)]; }
  const float* value(Index j) const { return &qkv_[at(j * width() + (heads_ + kv_heads_) * d_)]; }
  double dot(const float* a, const float* b) const;
  double score(Index i, Index head, Index j) const { return scale_ * dot(query(i, head), key(j)); }
  void check_row(Index i, double tolerance) const;

  MaskPlan mask_;
  Index n_, heads_, kv_heads_, d_;
  float scale_;
  std::vector<BFloat16> narrow_qkv_;  // with bf16 storage: what the kernel reads
  std::vector<float> qkv_, dout_, out_, dq_, dk_, dv_, lse_, delta_;
  std::vector<Range> line_;
  AttentionDropout dropout_{{}, line_, line_, 0};
  Ledger ledger_;
  Arena scratch_{Arena::Kind::pool, ledger_};
  std::unique_ptr<AttentionKernel> kernel_ = make_host_kernel();
};

}  // namespace plasmid::bench
