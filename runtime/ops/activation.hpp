#pragma once
#include "runtime/device/stream.hpp"
#include "runtime/nn/module.hpp"
#include "runtime/tensor/view.hpp"

namespace plasmid::ops {

// GELU (Hendrycks, Gimpel 2016): the tanh form, or exactly x Phi(x). ReLU: max(x, 0), with slope 0 at 0.
enum class Activation : std::uint8_t { gelu_tanh, gelu_erf, relu };

// Any contiguous f32 shape; y may be x (forward), dx may be dy (overwrite).
void activation_forward(ConstView x, Activation, View y, Stream&);
void activation_backward(ConstView x, Activation, ConstView dy, Write write, View dx, Stream&);

// SwiGLU (Shazeer 2020, eq. 6): y = gate * sigmoid(gate) * up. All [tokens, hidden] f32; y may be gate or up.
void swiglu_forward(ConstView gate, ConstView up, View y, Stream&);
void swiglu_backward(ConstView gate, ConstView up, ConstView dy, View dgate, View dup,
                     Stream&);  // overwrites; dgate or dup may be dy

namespace ref {
void activation_forward(ConstView x, Activation, View y);
void activation_backward(ConstView x, Activation, ConstView dy, Write write, View dx);
void swiglu_forward(ConstView gate, ConstView up, View y);
void swiglu_backward(ConstView gate, ConstView up, ConstView dy, View dgate, View dup);
}  // namespace ref

}  // namespace plasmid::ops
