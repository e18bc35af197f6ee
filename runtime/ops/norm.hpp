#pragma once
#include "runtime/device/stream.hpp"
#include "runtime/nn/module.hpp"
#include "runtime/tensor/view.hpp"

namespace plasmid::ops {

// Layer normalisation over the last dim (Ba, Kiros, Hinton 2016, eq. 4): y = (x - mean) * rstd * gain + bias.
//   x, y [tokens, width]; gain, bias [width]; mean, rstd [tokens], kept for backward, or empty; all f32
//   rstd = 1 / sqrt(variance + epsilon), variance divided by width. y may be x.
void layer_norm_forward(ConstView x, ConstView gain, ConstView bias, float epsilon, View y, View mean, View rstd,
                        Stream&);
// dx as `write` says; dgain, dbias [width] always accumulate.
void layer_norm_backward(ConstView x, ConstView gain, ConstView mean, ConstView rstd, ConstView dy, Write write,
                         View dx, View dgain, View dbias, Stream&);

// Root-mean-square normalisation (Zhang, Sennrich 2019, eq. 4): y = x * rstd * gain, rstd = 1 / sqrt(mean(x^2) +
// epsilon).
void rms_norm_forward(ConstView x, ConstView gain, float epsilon, View y, View rstd, Stream&);
void rms_norm_backward(ConstView x, ConstView gain, ConstView rstd, ConstView dy, Write write, View dx, View dgain,
                       Stream&);

namespace ref {  // the definitions, sums in f64
void layer_norm_forward(ConstView x, ConstView gain, ConstView bias, float epsilon, View y, View mean, View rstd);
void layer_norm_backward(ConstView x, ConstView gain, ConstView mean, ConstView rstd, ConstView dy, Write write,
                         View dx, View dgain, View dbias);
void rms_norm_forward(ConstView x, ConstView gain, float epsilon, View y, View rstd);
void rms_norm_backward(ConstView x, ConstView gain, ConstView rstd, ConstView dy, Write write, View dx, View dgain);
}  // namespace ref

}  // namespace plasmid::ops
