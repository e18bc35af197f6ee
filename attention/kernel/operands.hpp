#pragma once
#include "attention/kernel/kernel.hpp"
#include "runtime/base/bfloat16.hpp"

namespace plasmid::detail {

// A strided [rows, heads, d] or [rows, heads] tensor as a pointer and two steps, the form kernels work on.
template <class Element>
struct Rows {
  Element* data = nullptr;
  Index row_step = 0, head_step = 0;
  Element* at(Index row, Index head) const { return data + row * row_step + head * head_step; }
};
using ConstRows = Rows<const float>;
using MutableRows = Rows<float>;

// q, k or v: one of the two is set.
struct StoredRows {
  ConstRows wide;
  Rows<const BFloat16> narrow;

  // body(rows) with whichever it is; `widened` makes floats of its elements.
  template <class Body>
  void visit(Body&& body) const {
    narrow.data ? body(narrow) : body(wide);
  }
};

struct Extents {
  Index queries = 0, keys = 0, heads = 0, kv_heads = 0, d = 0;
  Index group() const { return kv_heads == 0 ? 1 : heads / kv_heads; }
};

// CHECK every shape and dtype of a call and return its extents.
Extents check_forward(const Attend&, ConstView out, ConstView lse);
Extents check_backward(const Attend&, ConstView lse, ConstView delta, ConstView dout, ConstView dq, ConstView dk,
                       ConstView dv);

template <class Element = float>
Rows<const Element> rows_of(ConstView view) {
  return {view.ptr<Element>(), view.step(0), view.step(1)};
}
inline MutableRows rows_of(View view) { return {view.ptr<float>(), view.step(0), view.step(1)}; }
inline StoredRows stored_rows_of(ConstView view) {
  if (view.dtype == DType::bf16) return {{}, rows_of<BFloat16>(view)};
  return {rows_of(view), {}};
}

}  // namespace plasmid::detail
