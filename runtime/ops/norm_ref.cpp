#include <cmath>

#include "runtime/ops/norm.hpp"
#include "runtime/ops/rows.hpp"

namespace plasmid::ops::ref {

void layer_norm_forward(ConstView x, ConstView gain, ConstView bias, float epsilon, View y, View mean, View rstd) {
  const Index tokens = x.dim(0), width = x.dim(1);
  const auto xs = rows_of<float>(x, tokens, width);
  const auto ys = rows_of<float>(y, tokens, width);
  const float *g = vector_of<float>(gain, width), *b = vector_of<float>(bias, width);
  float *const means = optional_vector<float>(mean, tokens), *const rstds = optional_vector<float>(rstd, tokens);
  for (Index t = 0; t < tokens; ++t) {
    double sum = 0, squares = 0;
    for (Index c = 0; c < width; ++c) sum += xs[t][c];
    const double m = sum / static_cast<double>(width);
    for (Index c = 0; c < width; ++c) squares += (xs[t][c] - m) * (xs[t][c] - m);
    const double r = 1 / std::sqrt(squares / static_cast<double>(width) + epsilon);
    for (Index c = 0; c < width; ++c) ys[t][c] = static_cast<float>((xs[t][c] - m) * r * g[c] + b[c]);
    if (means) means[t] = static_cast<float>(m);
    if (rstds) rstds[t] = static_cast<float>(r);
  }
}

// With n = (x - mean) * rstd and h = dy * gain:  dx = rstd * (h - mean(h) - n * mean(h * n)).
void layer_norm_backward(ConstView x, ConstView gain, ConstView mean, ConstView rstd, ConstView dy, Write write,
                         View dx, View dgain, View dbias) {
  const Index tokens = x.dim(0), width = x.dim(1);
  const auto xs = rows_of<float>(x, tokens, width), dys = rows_of<float>(dy, tokens, width);
  const float *g = vector_of<float>(gain, width), *m = vector_of<float>(mean, tokens),
              *r = vector_of<float>(rstd, tokens);
  const auto normal = [&](Index t, Index c) { return (static_cast<double>(xs[t][c]) - m[t]) * r[t]; };
  float *const dg = vector_of<float>(dgain, width), *const db = vector_of<float>(dbias, width);
  for (Index c = 0; c < width; ++c) {
    double gain_sum = 0, bias_sum = 0;
    for (Index t = 0; t < tokens; ++t) gain_sum += dys[t][c] * normal(t, c), bias_sum += dys[t][c];
    put(dg[c], gain_sum, Write::accumulate);
    put(db[c], bias_sum, Write::accumulate);
  }
  if (write == Write::skip) return;
  const auto dxs = rows_of<float>(dx, tokens, width);
  for (Index t = 0; t < tokens; ++t) {
    double mean_h = 0, mean_hn = 0;
    for (Index c = 0; c < width; ++c) {
      const double h = static_cast<double>(dys[t][c]) * g[c];
      mean_h += h / static_cast<double>(width);
      mean_hn += h * normal(t, c) / static_cast<double>(width);
    }
    for (Index c = 0; c < width; ++c) {
      const double h = static_cast<double>(dys[t][c]) * g[c];
      put(dxs[t][c], r[t] * (h - mean_h - normal(t, c) * mean_hn), write);
    }
  }
}

void rms_norm_forward(ConstView x, ConstView gain, float epsilon, View y, View rstd) {
  const Index tokens = x.dim(0), width = x.dim(1);
  const auto xs = rows_of<float>(x, tokens, width);
  const auto ys = rows_of<float>(y, tokens, width);
  const float *g = vector_of<float>(gain, width);
  float *const rstds = optional_vector<float>(rstd, tokens);
  for (Index t = 0; t < tokens; ++t) {
    double squares = 0;
    for (Index c = 0; c < width; ++c) squares += static_cast<double>(xs[t][c]) * xs[t][c];
    const double r = 1 / std::sqrt(squares / static_cast<double>(width) + epsilon);
    for (Index c = 0; c < width; ++c) ys[t][c] = static_cast<float>(xs[t][c] * r * g[c]);
    if (rstds) rstds[t] = static_cast<float>(r);
  }
}

// With n = x * rstd and h = dy * gain:  dx = rstd * (h - n * mean(h * n)).
void rms_norm_backward(ConstView x, ConstView gain, ConstView rstd, ConstView dy, Write write, View dx, View dgain) {
  const Index tokens = x.dim(0), width = x.dim(1);
  const auto xs = rows_of<float>(x, tokens, width), dys = rows_of<float>(dy, tokens, width);
  const float *g = vector_of<float>(gain, width), *r = vector_of<float>(rstd, tokens);
  const auto normal = [&](Index t, Index c) { return static_cast<double>(xs[t][c]) * r[t]; };
  float *const dg = vector_of<float>(dgain, width);
  for (Index c = 0; c < width; ++c) {
    double sum = 0;
    for (Index t = 0; t < tokens; ++t) sum += dys[t][c] * normal(t, c);
    put(dg[c], sum, Write::accumulate);
  }
  if (write == Write::skip) return;
  const auto dxs = rows_of<float>(dx, tokens, width);
  for (Index t = 0; t < tokens; ++t) {
    double mean_hn = 0;
    for (Index c = 0; c < width; ++c)
      mean_hn += static_cast<double>(dys[t][c]) * g[c] * normal(t, c) / static_cast<double>(width);
    for (Index c = 0; c < width; ++c)
      put(dxs[t][c], r[t] * (static_cast<double>(dys[t][c]) * g[c] - normal(t, c) * mean_hn), write);
  }
}

}  // namespace plasmid::ops::ref
