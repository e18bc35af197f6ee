#pragma once
#include "attention/kernel/kernel.hpp"

namespace plasmid::detail {

// A strided [rows, heads, d] or [rows, heads] tensor of f32 as a pointer and two steps, the form kernels work on.
template <class Float>
struct Rows {
  Float* data = nullptr;
  Index row_step = 0, head_step = 0;
  Float* at(Index row, Index head) const { return data + row * row_step + head * head_step; }
};
using ConstRows = Rows<const float>;
using MutableRows = Rows<float>;

struct Extents {
  Index queries = 0, keys = 0, heads = 0, kv_heads = 0, d = 0;
  Index group() const { return kv_heads == 0 ? 1 : heads / kv_heads; }
};

// CHECK every shape and dtype of a call and return its extents.
Extents check_forward(const Attend&, ConstView out, ConstView lse);
Extents check_backward(const Attend&, ConstView lse, ConstView delta, ConstView dout, ConstView dq, ConstView dk,
                       ConstView dv);

inline ConstRows rows_of(ConstView view) { return {view.ptr<float>(), view.step(0), view.step(1)}; }
inline MutableRows rows_of(View view) { return {view.ptr<float>(), view.step(0), view.step(1)}; }

}  // namespace plasmid::detail
