// The definition. The host kernels are optimisations of this file and are tested against it.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "attention/kernel/operands.hpp"

namespace plasmid {
namespace {

using detail::ConstRows;
using detail::Extents;
using detail::MutableRows;

constexpr double kNone = -std::numeric_limits<double>::infinity();

template <class A, class B>
double dot(const A* a, const B* b, Index d) {
  double sum = 0;
  for (Index c = 0; c < d; ++c) sum += static_cast<double>(widened(a[c])) * widened(b[c]);
  return sum;
}

// out and lse of one row become the merge of what they hold and the part (value, lse_b).
void merge(const double* value, double lse_b, Index d, float* out, float* lse) {
  if (lse_b == kNone) return;
  const double lse_a = *lse, weight = lse_a == kNone ? 1 : 1 / (1 + std::exp(lse_a - lse_b));
  for (Index c = 0; c < d; ++c) out[c] = static_cast<float>(out[c] - weight * (out[c] - value[c]));
  const double high = std::max(lse_a, lse_b), low = std::min(lse_a, lse_b);
  *lse = static_cast<float>(high + std::log1p(std::exp(low - high)));
}

// The token at a place of a holder's ranges.
Index token_of(const AttentionDropout& dropout, std::span<const Range> ranges, Index local) {
  for (const Range range : ranges) {
    if (local < range.size()) return dropout.first + range.begin + local;
    local -= range.size();
  }
  PLASMID_CHECK(false) << "no token " << local;
  std::abort();
}

// What dropout makes of a weight: its factor.
double kept(const AttentionDropout* dropout, Index query, Index head, Index key) {
  if (!dropout) return 1;
  const std::uint64_t row =
      AttentionDropout::row(token_of(*dropout, dropout->queries, query), dropout->first_head + head);
  const auto column = static_cast<std::uint64_t>(token_of(*dropout, dropout->keys, key));
  return dropout->mask.keeps(row, column) ? dropout->mask.scale() : 0;
}

class ReferenceKernel final : public AttentionKernel {
 public:
  void forward(const Attend& call, View out, View lse, Arena& scratch) override {
    const Extents e = detail::check_forward(call, out, lse);
    call.q.dtype == DType::bf16 ? forward_of<BFloat16>(call, e, out, lse, scratch)
                                : forward_of<float>(call, e, out, lse, scratch);
  }

  void backward(const Attend& call, ConstView lse, ConstView delta, ConstView dout, View dq, View dk, View dv,
                Arena& scratch) override {
    const Extents e = detail::check_backward(call, lse, delta, dout, dq, dk, dv);
    call.q.dtype == DType::bf16 ? backward_of<BFloat16>(call, e, lse, delta, dout, dq, dk, dv, scratch)
                                : backward_of<float>(call, e, lse, delta, dout, dq, dk, dv, scratch);
  }

  Index scratch_bytes(Index, Index keys, Index, Index kv_heads, Index d) const override {
    const Index row = arena_bytes({{d}, DType::f64});
    const Index forward = arena_bytes({{keys}, DType::f64}), backward = arena_bytes({{keys, kv_heads, d}, DType::f64});
    return row + std::max(forward, 2 * backward);
  }

 private:
  template <class Stored>
  static void forward_of(const Attend& call, const Extents& e, View out_view, View lse_view, Arena& scratch) {
    const auto q = detail::rows_of<Stored>(call.q), k = detail::rows_of<Stored>(call.k),
               v = detail::rows_of<Stored>(call.v);
    const MutableRows out = detail::rows_of(out_view), lse = detail::rows_of(lse_view);
    const Buffer score_buffer = scratch.take({{e.keys}, DType::f64}, "scratch.attention");
    const Buffer sum_buffer = scratch.take({{e.d}, DType::f64}, "scratch.attention");
    auto *score = score_buffer.view().ptr<double>(), *sum = sum_buffer.view().ptr<double>();

    for (Index i = 0; i < e.queries; ++i) {
      for (Index h = 0; h < e.heads; ++h) {
        const Index kv = h / e.group();
        double peak = kNone, weights = 0;
        for (Index j = 0; j < e.keys; ++j) {
          score[j] = call.mask.allows(i, j) ? call.scale * dot(q.at(i, h), k.at(j, kv), e.d) : kNone;
          peak = std::max(peak, score[j]);
        }
        if (peak == kNone) continue;
        std::fill_n(sum, e.d, 0.0);
        for (Index j = 0; j < e.keys; ++j) {
          const double weight = std::exp(score[j] - peak);
          weights += weight;
          if (weight == 0) continue;
          const double share = weight * kept(call.dropout, i, h, j);
          for (Index c = 0; c < e.d; ++c) sum[c] += share * widened(v.at(j, kv)[c]);
        }
        for (Index c = 0; c < e.d; ++c) sum[c] /= weights;
        merge(sum, peak + std::log(weights), e.d, out.at(i, h), lse.at(i, h));
      }
      if (call.poll) call.poll();
    }
  }

  template <class Stored>
  static void backward_of(const Attend& call, const Extents& e, ConstView lse_view, ConstView delta_view,
                          ConstView dout_view, View dq_view, View dk_view, View dv_view, Arena& scratch) {
    const auto q = detail::rows_of<Stored>(call.q), k = detail::rows_of<Stored>(call.k),
               v = detail::rows_of<Stored>(call.v);
    const ConstRows lse = detail::rows_of(lse_view);
    const ConstRows delta = detail::rows_of(delta_view), dout = detail::rows_of(dout_view);
    const Buffer dk_buffer = scratch.take({{e.keys, e.kv_heads, e.d}, DType::f64}, "scratch.attention");
    const Buffer dv_buffer = scratch.take({{e.keys, e.kv_heads, e.d}, DType::f64}, "scratch.attention");
    const Buffer dq_buffer = scratch.take({{e.d}, DType::f64}, "scratch.attention");
    auto *dk_sum = dk_buffer.view().ptr<double>(), *dv_sum = dv_buffer.view().ptr<double>();
    auto* dq_sum = dq_buffer.view().ptr<double>();
    std::fill_n(dk_sum, e.keys * e.kv_heads * e.d, 0.0);
    std::fill_n(dv_sum, e.keys * e.kv_heads * e.d, 0.0);

    for (Index i = 0; i < e.queries; ++i) {
      for (Index h = 0; h < e.heads; ++h) {
        if (*lse.at(i, h) == static_cast<float>(kNone)) continue;
        const Index kv = h / e.group();
        std::fill_n(dq_sum, e.d, 0.0);
        for (Index j = 0; j < e.keys; ++j) {
          if (!call.mask.allows(i, j)) continue;
          // A weight is at most one, also where lse is so large that its rounding says otherwise.
          const double p = std::exp(std::min(0.0, call.scale * dot(q.at(i, h), k.at(j, kv), e.d) - *lse.at(i, h)));
          const double keep = kept(call.dropout, i, h, j), dp = keep * dot(dout.at(i, h), v.at(j, kv), e.d);
          const double ds = p * (dp - *delta.at(i, h)) * call.scale;
          double *dk_row = dk_sum + (j * e.kv_heads + kv) * e.d, *dv_row = dv_sum + (j * e.kv_heads + kv) * e.d;
          for (Index c = 0; c < e.d; ++c) {
            dq_sum[c] += ds * widened(k.at(j, kv)[c]);
            dk_row[c] += ds * widened(q.at(i, h)[c]);
            dv_row[c] += p * keep * dout.at(i, h)[c];
          }
        }
        add(dq_sum, e.d, detail::rows_of(dq_view).at(i, h));
      }
      if (call.poll) call.poll();
    }
    for (Index j = 0; j < e.keys; ++j)
      for (Index kv = 0; kv < e.kv_heads; ++kv) {
        add(dk_sum + (j * e.kv_heads + kv) * e.d, e.d, detail::rows_of(dk_view).at(j, kv));
        add(dv_sum + (j * e.kv_heads + kv) * e.d, e.d, detail::rows_of(dv_view).at(j, kv));
      }
  }

  static void add(const double* sum, Index d, float* row) {
    for (Index c = 0; c < d; ++c) row[c] = static_cast<float>(row[c] + sum[c]);
  }
};

}  // namespace

std::unique_ptr<AttentionKernel> make_reference_kernel() { return std::make_unique<ReferenceKernel>(); }

}  // namespace plasmid
