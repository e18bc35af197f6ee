#include "runtime/ops/norm.hpp"

namespace plasmid::ops {

void layer_norm_forward(ConstView x, ConstView gain, ConstView bias, float epsilon, View y, View mean, View rstd,
                        Stream&) {
  ref::layer_norm_forward(x, gain, bias, epsilon, y, mean, rstd);
}
void layer_norm_backward(ConstView x, ConstView gain, ConstView mean, ConstView rstd, ConstView dy, Write write,
                         View dx, View dgain, View dbias, Stream&) {
  ref::layer_norm_backward(x, gain, mean, rstd, dy, write, dx, dgain, dbias);
}
void rms_norm_forward(ConstView x, ConstView gain, float epsilon, View y, View rstd, Stream&) {
  ref::rms_norm_forward(x, gain, epsilon, y, rstd);
}
void rms_norm_backward(ConstView x, ConstView gain, ConstView rstd, ConstView dy, Write write, View dx, View dgain,
                       Stream&) {
  ref::rms_norm_backward(x, gain, rstd, dy, write, dx, dgain);
}

}  // namespace plasmid::ops
