#pragma once
#include "runtime/device/stream.hpp"
#include "runtime/nn/module.hpp"
#include "runtime/tensor/view.hpp"

namespace plasmid::ops {

// The outer dim may be strided in each of these, inner dims contiguous; f32 unless said.
void fill(View x, float value, Stream&);
void copy(ConstView from, View to, Stream&);              // any one dtype
void add(ConstView a, ConstView b, View sum, Stream&);    // sum may be a or b
void write(ConstView from, Write how, View to, Stream&);  // to = from, to += from, or nothing
void scale(View x, float factor, Stream&);
void round(ConstView from, View to, Stream&);  // to, bf16: the nearest, ties to even

}  // namespace plasmid::ops
