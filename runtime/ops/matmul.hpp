#pragma once
#include "runtime/base/function_ref.hpp"
#include "runtime/device/stream.hpp"
#include "runtime/nn/module.hpp"
#include "runtime/tensor/view.hpp"

namespace plasmid::ops {

// How a weight lies in memory: y = x W^T (PyTorch's Linear) or y = x W (GPT-2's Conv1D).
enum class WeightLayout : std::uint8_t { out_in, in_out };

// Called for stretches of rows of a product, each row once, as soon as they are complete and still in the cache of the
// thread that computed them, which makes the call; in any order. For what is done to each row alone next: an
// activation, a rotation. It must not throw.
using RowsDone = FunctionRef<void(Range rows)>;

// Products of activations with weights, by oneDNN's sgemm, split over the OpenMP team. f32; rows of x, y, dy, dx may be
// strided (last dim contiguous), so a projection may write into its columns of a wider buffer. `forward` and `input
// gradient` work in fixed row panels: the bits of a row of y or dx depend on that row and the weight, not on how many
// rows stand beside it, nor on the number of threads. Few rows cost as much as a panel of 48. What oneDNN would have to
// transpose is copied in blocks of 2 MiB (or 48 columns, if they are longer), recycled; like oneDNN's own packing they
// are in no arena.
//
//   x [tokens, in], w [out, in] or [in, out], bias [out] or empty, y [tokens, out]
void linear_forward(ConstView x, ConstView w, WeightLayout, ConstView bias, View y, Stream&, RowsDone = {});
// dx = dy W (or +=, as `write` says).
void linear_input_gradient(ConstView dy, ConstView w, WeightLayout, Write write, View dx, Stream&, RowsDone = {});
// dw += x^T dy in w's layout, dbias += sum over tokens of dy (dbias may be empty). Sums over tokens: order depends on
// the number of tokens and threads.
void linear_weight_gradient(ConstView x, ConstView dy, WeightLayout, View dw, View dbias, Stream&);

namespace ref {  // the definitions, sums in f64
void linear_forward(ConstView x, ConstView w, WeightLayout, ConstView bias, View y);
void linear_input_gradient(ConstView dy, ConstView w, WeightLayout, Write write, View dx);
void linear_weight_gradient(ConstView x, ConstView dy, WeightLayout, View dw, View dbias);
}  // namespace ref

}  // namespace plasmid::ops
