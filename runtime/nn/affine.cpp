#include "runtime/nn/affine.hpp"

#include <optional>

#include "runtime/nn/saved.hpp"

namespace plasmid {

double Affine::flops(Index tokens) const {
  return 6.0 * static_cast<double>(tokens) * static_cast<double>(in()) * static_cast<double>(out());
}

void Affine::visit(const ParameterVisitor& visitor) const {
  visitor(weight);
  if (bias) visitor(bias);
}

void Affine::forward(Context& context, ConstView x, View y, ops::RowsDone done) const {
  const Lease w(context.weights, *weight, context.compute);
  std::optional<Lease> b;
  if (bias) b.emplace(context.weights, *bias, context.compute);
  ops::linear_forward(x, w.view(), layout, b ? b->view() : ConstView(), y, context.compute, done);
}

void Affine::input_gradient(Context& context, ConstView dy, Gradient dx, ops::RowsDone done) const {
  if (dx.write == Write::skip) return;
  const Lease w(context.weights, *weight, context.compute);
  ops::linear_input_gradient(dy, w.view(), layout, dx.write, dx.view, context.compute, done);
}

void Affine::weight_gradient(Context& context, ConstView x, ConstView dy) const {
  const View dw = context.weights.gradient(*weight);
  const View db = bias ? context.weights.gradient(*bias) : View();
  ops::linear_weight_gradient(x, dy, layout, dw, db, context.compute);
  announce(context, *weight);
  if (bias) announce(context, *bias);
}

Affine make_affine(const std::string& name, Index in, Index out, const AffineOptions& options) {
  const Shape shape = options.layout == ops::WeightLayout::out_in ? Shape{out, in} : Shape{in, out};
  Affine affine{make_parameter(name + ".weight", shape, {0, options.deviation}), nullptr, options.layout};
  if (options.bias) affine.bias = make_parameter(name + ".bias", {out}, {0, 0});
  return affine;
}

}  // namespace plasmid
