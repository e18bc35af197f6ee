#include <dnnl.h>

#include <algorithm>
#include <vector>

#include "runtime/device/parallel_for.hpp"
#include "runtime/ops/matmul.hpp"
#include "runtime/ops/rows.hpp"

namespace plasmid::ops {
namespace {

constexpr Index kPanel = 64;

void sgemm(bool transpose_a, bool transpose_b, Index m, Index n, Index k, const float* a, Index lda, const float* b,
           Index ldb, float beta, float* c, Index ldc) {
  const dnnl_status_t status =
      dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', m, n, k, 1, a, std::max<Index>(lda, 1), b,
                 std::max<Index>(ldb, 1), beta, c, std::max<Index>(ldc, 1));
  PLASMID_CHECK(status == dnnl_success) << "dnnl_sgemm " << m << " x " << n << " x " << k << ": " << status;
}

// y = a b (+ y): every panel is kPanel rows high, the last one in a padded copy, so each row meets the same kernel.
void panel_product(Rows<const float> a, Rows<const float> w, bool transpose_w, const float* bias, bool accumulate,
                   Rows<float> y) {
  parallel_for(ceil_div(a.count, kPanel), 1, [&](Index begin, Index end) {
    std::vector<float> a_pad, y_pad;
    for (Index panel = begin; panel < end; ++panel) {
      const Index first = panel * kPanel, rows = std::min(kPanel, a.count - first);
      const float* from = a[first];
      float* to = y[first];
      Index lda = a.stride, ldy = y.stride;
      if (rows < kPanel) {
        a_pad.assign(static_cast<std::size_t>(kPanel * a.width), 0);
        y_pad.assign(static_cast<std::size_t>(kPanel * y.width), 0);
        for (Index r = 0; r < rows; ++r) {
          std::copy_n(a[first + r], a.width, a_pad.data() + r * a.width);
          std::copy_n(y[first + r], y.width, y_pad.data() + r * y.width);
        }
        from = a_pad.data(), lda = a.width, to = y_pad.data(), ldy = y.width;
      }
      sgemm(false, transpose_w, kPanel, y.width, a.width, from, lda, w.data, w.stride, accumulate ? 1.0f : 0.0f, to,
            ldy);
      for (Index r = 0; r < rows; ++r) {
        float* row = y[first + r];
        if (rows < kPanel) std::copy_n(y_pad.data() + r * y.width, y.width, row);
        if (bias)
          for (Index c = 0; c < y.width; ++c) row[c] += bias[c];
      }
    }
  });
}

}  // namespace

void linear_forward(ConstView x, ConstView w, WeightLayout layout, ConstView bias, View y, Stream&) {
  const Index tokens = x.dim(0), in = x.dim(1), out = y.dim(1);
  const bool out_in = layout == WeightLayout::out_in;
  const auto weight = rows_of<float>(w, out_in ? out : in, out_in ? in : out);
  panel_product(rows_of<float>(x, tokens, in), weight, out_in, optional_vector<float>(bias, out), false,
                rows_of<float>(y, tokens, out));
}

void linear_input_gradient(ConstView dy, ConstView w, WeightLayout layout, Write write, View dx, Stream&) {
  if (write == Write::skip) return;
  const Index tokens = dy.dim(0), in = dx.dim(1), out = dy.dim(1);
  const bool out_in = layout == WeightLayout::out_in;
  const auto weight = rows_of<float>(w, out_in ? out : in, out_in ? in : out);
  panel_product(rows_of<float>(dy, tokens, out), weight, !out_in, nullptr, write == Write::accumulate,
                rows_of<float>(dx, tokens, in));
}

void linear_weight_gradient(ConstView x, ConstView dy, WeightLayout layout, View dw, View dbias, Stream&) {
  const Index tokens = x.dim(0), in = x.dim(1), out = dy.dim(1);
  const bool out_in = layout == WeightLayout::out_in;
  const auto xs = rows_of<float>(x, tokens, in), dys = rows_of<float>(dy, tokens, out);
  const auto gradient = rows_of<float>(dw, out_in ? out : in, out_in ? in : out);
  float* const db = optional_vector<float>(dbias, out);
  if (tokens == 0) return;
  const auto &left = out_in ? dys : xs, &right = out_in ? xs : dys;
  sgemm(true, false, left.width, right.width, tokens, left.data, left.stride, right.data, right.stride, 1,
        gradient.data, gradient.stride);
  for (Index o = 0; db && o < out; ++o) {
    double sum = 0;
    for (Index t = 0; t < tokens; ++t) sum += dys[t][o];
    put(db[o], sum, Write::accumulate);
  }
}

}  // namespace plasmid::ops
