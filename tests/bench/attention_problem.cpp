#include "tests/bench/attention_problem.hpp"

#include <algorithm>
#include <cmath>
#include <random>

#include "runtime/base/bfloat16.hpp"
#include "runtime/base/check.hpp"

namespace plasmid::bench {

MaskPlan causal(Index n) {
  MaskPlan mask;
  mask.queries = mask.keys = n;
  for (Index i = 0; i < n; ++i) mask.rows.push_back({0, static_cast<std::int32_t>(i + 1)});
  return mask;
}

AttentionProblem::AttentionProblem(MaskPlan mask, Index heads, Index kv_heads, Index d, DType storage)
    : mask_(std::move(mask)),
      n_(mask_.queries),
      heads_(heads),
      kv_heads_(kv_heads),
      d_(d),
      scale_(1 / std::sqrt(static_cast<float>(d))),
      line_{{0, n_}} {
  std::mt19937 bits(1);
  std::normal_distribution<float> draw;
  const auto fill = [&](std::vector<float>& tensor, Index columns) {
    tensor.resize(at(n_ * columns));
    for (float& x : tensor) x = draw(bits);
  };
  fill(qkv_, width()), fill(dout_, heads * d);
  if (storage == DType::bf16)
    for (float& x : qkv_) narrow_qkv_.push_back(rounded(x)), x = widened(narrow_qkv_.back());
  out_.resize(dout_.size()), dq_.resize(dout_.size());
  dk_.resize(at(n_ * kv_heads * d)), dv_.resize(dk_.size());
  lse_.resize(at(n_ * heads)), delta_.resize(lse_.size());
}

Attend AttentionProblem::call() {
  const bool narrow = !narrow_qkv_.empty();
  const View all = (narrow ? view_of(std::span(narrow_qkv_)) : view_of(std::span(qkv_))).reshape({n_, width()});
  const auto part = [&](Index first, Index heads) {
    return all.slice(1, first * d_, (first + heads) * d_).reshape({n_, heads, d_});
  };
  return {part(0, heads_),
          part(heads_, kv_heads_),
          part(heads_ + kv_heads_, kv_heads_),
          mask_,
          scale_,
          {},
          dropout_.mask ? &dropout_ : nullptr};
}

void AttentionProblem::forward() {
  attention_start(rows(out_), row_numbers(lse_));
  kernel_->forward(call(), rows(out_), row_numbers(lse_), scratch_);
}

void AttentionProblem::backward() {
  attention_delta(rows(out_), rows(dout_), row_numbers(delta_));
  kernel_->backward(call(), row_numbers(lse_), row_numbers(delta_), rows(dout_), rows(dq_), key_rows(dk_),
                    key_rows(dv_), scratch_);
}

double AttentionProblem::dot(const float* a, const float* b) const {
  double sum = 0;
  for (Index c = 0; c < d_; ++c) sum += static_cast<double>(a[c]) * b[c];
  return sum;
}

void AttentionProblem::check_row(Index i, double tolerance) const {
  const KeySpan span = mask_.rows[at(i)];
  const std::size_t first = at(i * heads_ * d_);  // of head 0
  std::vector<double> out(at(d_)), dq(out);
  double total = 0;
  for (Index j = span.begin; j < span.end; ++j) total += std::exp(score(i, 0, j));
  PLASMID_CHECK(std::abs(std::log(total) - lse_[at(i * heads_)]) < tolerance) << "lse of row " << i;
  for (Index j = span.begin; j < span.end; ++j) {
    const double p = std::exp(score(i, 0, j)) / total;
    const double ds = p * (dot(&dout_[first], value(j)) - delta_[at(i * heads_)]);
    for (Index c = 0; c < d_; ++c) out[at(c)] += p * value(j)[c], dq[at(c)] += scale_ * ds * key(j)[c];
  }
  for (Index c = 0; c < d_; ++c) {
    PLASMID_CHECK(std::abs(out[at(c)] - out_[first + at(c)]) < tolerance) << "out of row " << i;
    PLASMID_CHECK(std::abs(dq[at(c)] - dq_[first + at(c)]) < tolerance) << "dq of row " << i;
  }
}

void AttentionProblem::check() {
  for (std::vector<float>* gradient : {&dq_, &dk_, &dv_}) std::fill(gradient->begin(), gradient->end(), 0.0f);
  forward(), backward();
  const double tolerance = std::sqrt(static_cast<double>(n_)) * 0x1p-22;  // sums of n terms near one
  for (const Index i : {Index{0}, Index{1}, n_ / 2, n_ - 1}) check_row(i, tolerance);
  const Index j = n_ / 3;
  double dv = 0;
  for (Index i = 0; i < n_; ++i)
    for (Index h = 0; h < heads_ / kv_heads_; ++h)
      if (mask_.allows(i, j))
        dv += std::exp(score(i, h, j) - lse_[at(i * heads_ + h)]) * dout_[at((i * heads_ + h) * d_)];
  PLASMID_CHECK(std::abs(dv - dv_[at(j * kv_heads_ * d_)]) < tolerance) << "dv of key " << j;
}

}  // namespace plasmid::bench
