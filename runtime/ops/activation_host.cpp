#include "runtime/device/parallel_for.hpp"
#include "runtime/ops/activation.hpp"
#include "runtime/ops/rows.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/ops/activation_host.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "runtime/ops/simd-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace plasmid::ops {
namespace HWY_NAMESPACE {

// Products that are added say so (MulAdd): the compiler is then not free to fuse them in one place and not in another,
// and an element keeps its bits wherever the team's split puts it.
HWY_INLINE V set(double value) { return hn::Set(D(), static_cast<float>(value)); }

struct Curve {  // a function of x that rises from 0 to 1, how far it still has to go, and its slope
  V value, rest, slope;
};

// 1 / (1 + exp(-x)). The rest is a product, so that it keeps its digits where it is small.
HWY_INLINE Curve logistic(V x) {
  const V e = hn::Exp(D(), hn::Min(hn::Neg(x), set(88)));  // beyond 88, e overflows
  const V value = hn::Div(set(1), hn::Add(set(1), e)), rest = hn::Mul(e, value);
  return {value, rest, hn::Mul(value, rest)};
}

// tanh form: x / 2 (1 + tanh u) = x logistic(2 u), 2 u = 2 sqrt(2 / pi) (x + 0.044715 x^3).
HWY_INLINE Curve tanh_curve(V x) {
  const V root = set(1.5957691216057308), cubic = set(0.044715 * 1.5957691216057308), square = hn::Mul(x, x);
  Curve curve = logistic(hn::Mul(x, hn::MulAdd(cubic, square, root)));
  curve.slope = hn::Mul(curve.slope, hn::MulAdd(hn::Mul(set(3), cubic), square, root));
  return curve;
}

// Phi(x) = erfc(-x / sqrt 2) / 2. erfc(z) exp(z^2), z >= 0, is a polynomial of t = 1 / (1 + z / 2) to 3.2e-8 of its
// value (interpolated at the Chebyshev nodes of 0 <= z <= 10).
HWY_INLINE Curve normal_curve(V x) {
  constexpr double kErfc[] = {0.03626244983384746, -0.2583130066809823, 0.7609112599950224,    -1.1378146930027375,
                              0.8386283131328313,  -0.3440099904164234, 0.32194617266258674,   0.21380631316077708,
                              0.2868713197866049,  0.2816974465904338,  1.4414850953557132e-05};
  const V e = hn::Exp(D(), hn::Mul(set(-0.5), hn::Mul(x, x)));
  const V t = hn::Div(set(1), hn::MulAdd(hn::Abs(x), set(0.35355339059327373), set(1)));
  V p = set(kErfc[0]);
  for (int i = 1; i < 11; ++i) p = hn::MulAdd(p, t, set(kErfc[i]));
  const V half = hn::Mul(set(0.5), e), tail = hn::Mul(half, p), body = hn::NegMulAdd(half, p, set(1));
  const auto negative = hn::Lt(x, set(0));
  return {hn::IfThenElse(negative, tail, body), hn::IfThenElse(negative, body, tail),
          hn::Mul(e, set(0.3989422804014327))};
}

// v where x is above 0 or not a number.
HWY_INLINE V where_positive(V x, V v) { return hn::IfThenElse(hn::Le(x, set(0)), set(0), v); }

template <class CurveOf>
HWY_INLINE void curve_forward(const float* x, Index width, float* y, const CurveOf& curve) {
  for_each_vector(width, [&](Index c, Index n) HWY_ATTR {
    const V v = load(x + c, n);
    store(hn::Mul(v, curve(v).value), y + c, n);
  });
}

template <class CurveOf>
HWY_INLINE void curve_backward(const float* x, const float* dy, Index width, Write write, float* dx,
                               const CurveOf& curve) {
  for_each_vector(width, [&](Index c, Index n) HWY_ATTR {
    const V v = load(x + c, n);
    const Curve at = curve(v);
    const V before = write == Write::accumulate ? load(dx + c, n) : hn::Zero(D());
    store(hn::MulAdd(load(dy + c, n), hn::MulAdd(v, at.slope, at.value), before), dx + c, n);
  });
}

void activation_row(const float* x, Index width, Activation kind, float* y) {
  if (kind == Activation::gelu_tanh) return curve_forward(x, width, y, [](V v) HWY_ATTR { return tanh_curve(v); });
  if (kind == Activation::gelu_erf) return curve_forward(x, width, y, [](V v) HWY_ATTR { return normal_curve(v); });
  for_each_vector(width, [&](Index c, Index n) HWY_ATTR {
    const V v = load(x + c, n);
    store(where_positive(v, v), y + c, n);
  });
}

void activation_gradient_row(const float* x, const float* dy, Index width, Activation kind, Write write, float* dx) {
  if (kind == Activation::gelu_tanh)
    return curve_backward(x, dy, width, write, dx, [](V v) HWY_ATTR { return tanh_curve(v); });
  if (kind == Activation::gelu_erf)
    return curve_backward(x, dy, width, write, dx, [](V v) HWY_ATTR { return normal_curve(v); });
  for_each_vector(width, [&](Index c, Index n) HWY_ATTR {
    const V gradient = where_positive(load(x + c, n), load(dy + c, n));
    store(write == Write::accumulate ? hn::Add(load(dx + c, n), gradient) : gradient, dx + c, n);
  });
}

void swiglu_row(const float* gate, const float* up, Index width, float* y) {
  for_each_vector(width, [&](Index c, Index n) HWY_ATTR {
    const V g = load(gate + c, n);
    store(hn::Mul(hn::Mul(g, logistic(g).value), load(up + c, n)), y + c, n);
  });
}

void swiglu_gradient_row(const float* gate, const float* up, const float* dy, Index width, float* dgate, float* dup) {
  for_each_vector(width, [&](Index c, Index n) HWY_ATTR {
    const V g = load(gate + c, n), u = load(up + c, n), d = load(dy + c, n);
    const Curve at = logistic(g);
    store(hn::Mul(hn::Mul(d, u), hn::MulAdd(g, at.slope, at.value)), dgate + c, n);
    store(hn::Mul(d, hn::Mul(g, at.value)), dup + c, n);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace plasmid::ops
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace plasmid::ops {
namespace {

HWY_EXPORT(activation_row);
HWY_EXPORT(activation_gradient_row);
HWY_EXPORT(swiglu_row);
HWY_EXPORT(swiglu_gradient_row);

constexpr Index kGrain = 4096;  // elements

// body(token) over [tokens, width], in parts of at least kGrain elements.
template <class Body>
void for_each_row(Index tokens, Index width, Body&& body) {
  parallel_for(tokens, ceil_div(kGrain, width + 1), [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t) body(t);
  });
}

}  // namespace

void activation_forward(ConstView x, Activation kind, View y, Stream&) {
  PLASMID_CHECK(x.shape == y.shape) << to_string(x.shape) << " to " << to_string(y.shape);
  const auto from = x.flat<float>();
  const auto to = y.flat<float>();
  parallel_for(x.count(), kGrain, [&](Index begin, Index end) {
    HWY_DYNAMIC_DISPATCH(activation_row)(from.data() + begin, end - begin, kind, to.data() + begin);
  });
}

void activation_backward(ConstView x, Activation kind, ConstView dy, Write write, View dx, Stream&) {
  if (write == Write::skip) return;
  PLASMID_CHECK(x.shape == dy.shape && x.shape == dx.shape)
      << to_string(x.shape) << ", " << to_string(dy.shape) << " to " << to_string(dx.shape);
  const auto from = x.flat<float>(), gradient = dy.flat<float>();
  const auto to = dx.flat<float>();
  parallel_for(x.count(), kGrain, [&](Index begin, Index end) {
    HWY_DYNAMIC_DISPATCH(activation_gradient_row)
    (from.data() + begin, gradient.data() + begin, end - begin, kind, write, to.data() + begin);
  });
}

void swiglu_forward(ConstView gate, ConstView up, View y, Stream&) {
  const Index tokens = gate.dim(0), hidden = gate.dim(1);
  const auto gates = rows_of<float>(gate, tokens, hidden), ups = rows_of<float>(up, tokens, hidden);
  const auto ys = rows_of<float>(y, tokens, hidden);
  for_each_row(tokens, hidden, [&](Index t) { HWY_DYNAMIC_DISPATCH(swiglu_row)(gates[t], ups[t], hidden, ys[t]); });
}

void swiglu_backward(ConstView gate, ConstView up, ConstView dy, View dgate, View dup, Stream&) {
  const Index tokens = gate.dim(0), hidden = gate.dim(1);
  const auto gates = rows_of<float>(gate, tokens, hidden), ups = rows_of<float>(up, tokens, hidden),
             dys = rows_of<float>(dy, tokens, hidden);
  const auto dgates = rows_of<float>(dgate, tokens, hidden), dups = rows_of<float>(dup, tokens, hidden);
  for_each_row(tokens, hidden, [&](Index t) {
    HWY_DYNAMIC_DISPATCH(swiglu_gradient_row)(gates[t], ups[t], dys[t], hidden, dgates[t], dups[t]);
  });
}

}  // namespace plasmid::ops
#endif
