#pragma once
#include "runtime/device/stream.hpp"
#include "runtime/nn/module.hpp"
#include "runtime/tensor/view.hpp"

namespace plasmid::ops {

enum class Gelu : std::uint8_t { tanh, erf };  // Hendrycks, Gimpel 2016: the tanh form, or exactly x Phi(x)

// Any contiguous f32 shape; y may be x (forward), dx may be dy (overwrite).
void gelu_forward(ConstView x, Gelu, View y, Stream&);
void gelu_backward(ConstView x, Gelu, ConstView dy, Write write, View dx, Stream&);

// SwiGLU (Shazeer 2020, eq. 6): y = gate * sigmoid(gate) * up. All [tokens, hidden] f32; y may be gate or up.
void swiglu_forward(ConstView gate, ConstView up, View y, Stream&);
void swiglu_backward(ConstView gate, ConstView up, ConstView dy, View dgate, View dup,
                     Stream&);  // overwrites; dgate or dup may be dy

namespace ref {
void gelu_forward(ConstView x, Gelu, View y);
void gelu_backward(ConstView x, Gelu, ConstView dy, Write write, View dx);
void swiglu_forward(ConstView gate, ConstView up, View y);
void swiglu_backward(ConstView gate, ConstView up, ConstView dy, View dgate, View dup);
}  // namespace ref

}  // namespace plasmid::ops
