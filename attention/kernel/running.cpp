#include <algorithm>
#include <limits>

#include "attention/kernel/operands.hpp"
#include "runtime/base/check.hpp"
#include "runtime/device/parallel_for.hpp"

namespace plasmid {

using detail::ConstRows;
using detail::MutableRows;

void attention_start(View out_view, View lse_view) {
  const Index queries = out_view.dim(0), heads = out_view.dim(1), d = out_view.dim(2);
  PLASMID_CHECK(lse_view.shape == (Shape{queries, heads})) << "lse is " << to_string(lse_view.shape);
  const MutableRows out = detail::rows_of(out_view), lse = detail::rows_of(lse_view);
  parallel_for(queries, 256, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i)
      for (Index h = 0; h < heads; ++h) {
        std::fill_n(out.at(i, h), d, 0.0f);
        *lse.at(i, h) = -std::numeric_limits<float>::infinity();
      }
  });
}

void attention_delta(ConstView out_view, ConstView dout_view, View delta_view) {
  const Index queries = out_view.dim(0), heads = out_view.dim(1), d = out_view.dim(2);
  PLASMID_CHECK(dout_view.shape == out_view.shape && delta_view.shape == (Shape{queries, heads}))
      << "out " << to_string(out_view.shape) << ", dout " << to_string(dout_view.shape) << ", delta "
      << to_string(delta_view.shape);
  const ConstRows out = detail::rows_of(out_view), dout = detail::rows_of(dout_view);
  const MutableRows delta = detail::rows_of(delta_view);
  parallel_for(queries, 64, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i)
      for (Index h = 0; h < heads; ++h) {
        const float *a = out.at(i, h), *b = dout.at(i, h);
        double sum = 0;  // dP - delta cancels: delta's own rounding must not show
        for (Index c = 0; c < d; ++c) sum += static_cast<double>(a[c]) * b[c];
        *delta.at(i, h) = static_cast<float>(sum);
      }
  });
}

}  // namespace plasmid
