#include "attention/kernel/operands.hpp"

#include "runtime/base/check.hpp"

namespace plasmid::detail {
namespace {

void check_rows(ConstView view, const char* name, Index rows, Index heads, Index d, DType dtype = DType::f32) {
  PLASMID_CHECK(view.dtype == dtype) << name << " is " << name_of(view.dtype) << ", not " << name_of(dtype);
  const Shape wanted = d < 0 ? Shape{rows, heads} : Shape{rows, heads, d};
  PLASMID_CHECK(view.shape == wanted) << name << " is " << to_string(view.shape) << ", not " << to_string(wanted);
  PLASMID_CHECK(d < 0 || d <= 1 || view.step(-1) == 1) << "the last dim of " << name << " is strided";
}

Extents check_inputs(const Attend& call) {
  PLASMID_CHECK(call.q.shape.rank == 3 && call.k.shape.rank == 3)
      << "q " << to_string(call.q.shape) << ", k " << to_string(call.k.shape);
  const Extents e{call.q.dim(0), call.k.dim(0), call.q.dim(1), call.k.dim(1), call.q.dim(2)};
  PLASMID_CHECK(e.kv_heads > 0 && e.heads % e.kv_heads == 0)
      << e.heads << " query heads over " << e.kv_heads << " key heads";
  const DType stored = call.q.dtype;
  PLASMID_CHECK(stored == DType::f32 || stored == DType::bf16) << "q is " << name_of(stored) << ", not f32 or bf16";
  check_rows(call.q, "q", e.queries, e.heads, e.d, stored);
  check_rows(call.k, "k", e.keys, e.kv_heads, e.d, stored);
  check_rows(call.v, "v", e.keys, e.kv_heads, e.d, stored);
  const MaskPlan& mask = call.mask;
  PLASMID_CHECK(mask.queries == e.queries && mask.keys == e.keys && static_cast<Index>(mask.rows.size()) == e.queries)
      << "a mask of " << mask.queries << " x " << mask.keys << " over " << e.queries << " x " << e.keys;
  PLASMID_CHECK(mask.key_valid.empty() || static_cast<Index>(mask.key_valid.size()) == e.keys)
      << mask.key_valid.size() << " validity bytes for " << e.keys << " keys";
  if (const AttentionDropout* dropout = call.dropout) {
    const auto check_tokens = [&](std::span<const Range> ranges, Index count, const char* name) {
      for (const Range range : ranges) {
        PLASMID_CHECK(dropout->first + range.end < Index{1} << 48) << "a batch of 2^48 tokens";
        count -= range.size();
      }
      PLASMID_CHECK(count == 0) << "places in the line for all " << name << " but " << count;
    };
    check_tokens(dropout->queries, e.queries, "queries"), check_tokens(dropout->keys, e.keys, "keys");
    PLASMID_CHECK(dropout->first_head + e.heads <= 1 << 16) << dropout->first_head + e.heads << " heads";
  }
  for (const KeySpan span : mask.rows)
    PLASMID_CHECK(0 <= span.begin && span.begin <= span.end && span.end <= e.keys)
        << "span [" << span.begin << ", " << span.end << ") of " << e.keys << " keys";
  return e;
}

}  // namespace

Extents check_forward(const Attend& call, ConstView out, ConstView lse) {
  const Extents e = check_inputs(call);
  check_rows(out, "out", e.queries, e.heads, e.d);
  check_rows(lse, "lse", e.queries, e.heads, -1);
  return e;
}

Extents check_backward(const Attend& call, ConstView lse, ConstView delta, ConstView dout, ConstView dq, ConstView dk,
                       ConstView dv) {
  const Extents e = check_inputs(call);
  check_rows(lse, "lse", e.queries, e.heads, -1);
  check_rows(delta, "delta", e.queries, e.heads, -1);
  check_rows(dout, "dout", e.queries, e.heads, e.d);
  check_rows(dq, "dq", e.queries, e.heads, e.d);
  check_rows(dk, "dk", e.keys, e.kv_heads, e.d);
  check_rows(dv, "dv", e.keys, e.kv_heads, e.d);
  return e;
}

}  // namespace plasmid::detail
