#pragma once
#include <string>

#include "runtime/nn/module.hpp"
#include "runtime/ops/matmul.hpp"

namespace plasmid {

// The weight and bias of y = x W + b, and the three products with them: what projections have in common. Not a Module,
// so that a caller may let several write into the columns of one buffer.
struct Affine {
  ParameterPtr weight;  // [out, in] or [in, out], as `layout` says
  ParameterPtr bias;    // [out], or null
  ops::WeightLayout layout = ops::WeightLayout::out_in;

  Index in() const { return weight->shape[layout == ops::WeightLayout::out_in ? 1 : 0]; }
  Index out() const { return weight->shape[layout == ops::WeightLayout::out_in ? 0 : 1]; }
  double flops(Index tokens) const;  // of forward and backward
  void visit(const ParameterVisitor&) const;

  // x [tokens, in], y [tokens, out], rows may be strided. `done`: as soon as rows of y or dx are complete.
  void forward(Context&, ConstView x, View y, ops::RowsDone done = {}) const;
  void input_gradient(Context&, ConstView dy, Gradient dx, ops::RowsDone done = {}) const;
  void weight_gradient(Context&, ConstView x, ConstView dy) const;  // of the bias too; announces both
};

struct AffineOptions {
  ops::WeightLayout layout = ops::WeightLayout::out_in;
  bool bias = true;
  float deviation = 0.02f;  // of the initial weights; biases start at 0
};
// Parameters NAME.weight and NAME.bias.
Affine make_affine(const std::string& name, Index in, Index out, const AffineOptions&);

}  // namespace plasmid
