#include "runtime/ops/activation.hpp"

namespace plasmid::ops {

void gelu_forward(ConstView x, Gelu kind, View y, Stream&) { ref::gelu_forward(x, kind, y); }
void gelu_backward(ConstView x, Gelu kind, ConstView dy, Write write, View dx, Stream&) {
  ref::gelu_backward(x, kind, dy, write, dx);
}
void swiglu_forward(ConstView gate, ConstView up, View y, Stream&) { ref::swiglu_forward(gate, up, y); }
void swiglu_backward(ConstView gate, ConstView up, ConstView dy, View dgate, View dup, Stream&) {
  ref::swiglu_backward(gate, up, dy, dgate, dup);
}

}  // namespace plasmid::ops
