#include <algorithm>
#include <cmath>
#include <numbers>

#include "runtime/ops/activation.hpp"
#include "runtime/ops/rows.hpp"

namespace plasmid::ops::ref {
namespace {

// tanh form: x / 2 * (1 + tanh(u)), u = sqrt(2 / pi) * (x + 0.044715 x^3).
constexpr double kCubic = 0.044715;
const double kRoot = std::sqrt(2 / std::numbers::pi);

double value(double x, Activation kind) {
  if (kind == Activation::relu) return x <= 0 ? 0 : x;
  if (kind == Activation::gelu_erf) return 0.5 * x * std::erfc(-x / std::numbers::sqrt2);
  return 0.5 * x * (1 + std::tanh(kRoot * (x + kCubic * x * x * x)));
}

double slope(double x, Activation kind) {
  if (kind == Activation::relu) return x <= 0 ? 0 : 1;
  if (kind == Activation::gelu_erf)
    return 0.5 * std::erfc(-x / std::numbers::sqrt2) + x * std::exp(-0.5 * x * x) / std::sqrt(2 * std::numbers::pi);
  const double t = std::tanh(kRoot * (x + kCubic * x * x * x));
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * kRoot * (1 + 3 * kCubic * x * x);
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

}  // namespace

void activation_forward(ConstView x, Activation kind, View y) {
  PLASMID_CHECK(x.shape == y.shape) << to_string(x.shape) << " to " << to_string(y.shape);
  const auto from = x.flat<float>();
  const auto to = y.flat<float>();
  for (std::size_t i = 0; i < from.size(); ++i) to[i] = static_cast<float>(value(from[i], kind));
}

void activation_backward(ConstView x, Activation kind, ConstView dy, Write write, View dx) {
  if (write == Write::skip) return;
  PLASMID_CHECK(x.shape == dy.shape && x.shape == dx.shape) << to_string(x.shape) << " to " << to_string(dx.shape);
  const auto from = x.flat<float>(), gradient = dy.flat<float>();
  const auto to = dx.flat<float>();
  for (std::size_t i = 0; i < from.size(); ++i) put(to[i], gradient[i] * slope(from[i], kind), write);
}

void swiglu_forward(ConstView gate, ConstView up, View y) {
  const Index tokens = gate.dim(0), hidden = gate.dim(1);
  const auto gates = rows_of<float>(gate, tokens, hidden), ups = rows_of<float>(up, tokens, hidden);
  const auto ys = rows_of<float>(y, tokens, hidden);
  for (Index t = 0; t < tokens; ++t)
    for (Index c = 0; c < hidden; ++c) {
      const double g = gates[t][c];
      ys[t][c] = static_cast<float>(g * sigmoid(g) * ups[t][c]);
    }
}

// With s = sigmoid(gate):  dgate = dy * up * s * (1 + gate * (1 - s)),  dup = dy * gate * s.
void swiglu_backward(ConstView gate, ConstView up, ConstView dy, View dgate, View dup) {
  const Index tokens = gate.dim(0), hidden = gate.dim(1);
  const auto gates = rows_of<float>(gate, tokens, hidden), ups = rows_of<float>(up, tokens, hidden),
             dys = rows_of<float>(dy, tokens, hidden);
  const auto dgates = rows_of<float>(dgate, tokens, hidden), dups = rows_of<float>(dup, tokens, hidden);
  for (Index t = 0; t < tokens; ++t)
    for (Index c = 0; c < hidden; ++c) {
      const double g = gates[t][c], s = sigmoid(g), d = dys[t][c], u = ups[t][c];
      dgates[t][c] = static_cast<float>(d * u * s * (1 + g * (1 - s)));
      dups[t][c] = static_cast<float>(d * g * s);
    }
}

}  // namespace plasmid::ops::ref
