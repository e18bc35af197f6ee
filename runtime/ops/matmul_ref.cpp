#include "runtime/ops/matmul.hpp"
#include "runtime/ops/rows.hpp"

namespace plasmid::ops::ref {
namespace {

// W[o, i] of either layout.
template <class T>
struct Weight {
  Rows<T> rows;
  WeightLayout layout;
  T& at(Index out, Index in) const { return layout == WeightLayout::out_in ? rows[out][in] : rows[in][out]; }
};

template <class Byte>
auto weight_of(const BasicView<Byte>& w, WeightLayout layout, Index in, Index out) {
  const bool out_in = layout == WeightLayout::out_in;
  using Element = typename BasicView<Byte>::template Element<float>;
  return Weight<Element>{rows_of<float>(w, out_in ? out : in, out_in ? in : out), layout};
}

}  // namespace

void linear_forward(ConstView x, ConstView w, WeightLayout layout, ConstView bias, View y) {
  const Index tokens = x.dim(0), in = x.dim(1), out = y.dim(1);
  const auto xs = rows_of<float>(x, tokens, in);
  const auto ys = rows_of<float>(y, tokens, out);
  const auto weight = weight_of(w, layout, in, out);
  const float* b = optional_vector<float>(bias, out);
  for (Index t = 0; t < tokens; ++t)
    for (Index o = 0; o < out; ++o) {
      double sum = b ? b[o] : 0;
      for (Index i = 0; i < in; ++i) sum += static_cast<double>(xs[t][i]) * weight.at(o, i);
      ys[t][o] = static_cast<float>(sum);
    }
}

void linear_input_gradient(ConstView dy, ConstView w, WeightLayout layout, Write write, View dx) {
  if (write == Write::skip) return;
  const Index tokens = dy.dim(0), in = dx.dim(1), out = dy.dim(1);
  const auto dys = rows_of<float>(dy, tokens, out);
  const auto dxs = rows_of<float>(dx, tokens, in);
  const auto weight = weight_of(w, layout, in, out);
  for (Index t = 0; t < tokens; ++t)
    for (Index i = 0; i < in; ++i) {
      double sum = 0;
      for (Index o = 0; o < out; ++o) sum += static_cast<double>(dys[t][o]) * weight.at(o, i);
      put(dxs[t][i], sum, write);
    }
}

void linear_weight_gradient(ConstView x, ConstView dy, WeightLayout layout, View dw, View dbias) {
  const Index tokens = x.dim(0), in = x.dim(1), out = dy.dim(1);
  const auto xs = rows_of<float>(x, tokens, in);
  const auto dys = rows_of<float>(dy, tokens, out);
  const auto gradient = weight_of(dw, layout, in, out);
  float* const db = optional_vector<float>(dbias, out);
  for (Index o = 0; o < out; ++o) {
    for (Index i = 0; i < in; ++i) {
      double sum = 0;
      for (Index t = 0; t < tokens; ++t) sum += static_cast<double>(xs[t][i]) * dys[t][o];
      put(gradient.at(o, i), sum, Write::accumulate);
    }
    double sum = 0;
    for (Index t = 0; t < tokens; ++t) sum += dys[t][o];
    if (db) put(db[o], sum, Write::accumulate);
  }
}

}  // namespace plasmid::ops::ref
