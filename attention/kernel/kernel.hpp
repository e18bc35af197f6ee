#pragma once
#include <functional>
#include <memory>
#include <span>

#include "attention/mask/mask.hpp"
#include "runtime/base/dropout_mask.hpp"
#include "runtime/base/index.hpp"
#include "runtime/tensor/arena.hpp"
#include "runtime/tensor/view.hpp"

namespace plasmid {

// Dropout of the normalised weights P; lse is of the undropped scores. Which (query, key) pairs are dropped depends on
// their places in the line and on the query head, not on who holds them.
struct AttentionDropout {
  DropoutMask mask;                      // of rows token | head << 48, and columns token
  std::span<const Range> queries, keys;  // places in the line of the call's queries and keys, as TokenMap::shards
  Index first = 0;                       // of the line's tokens in the job's whole batch: token = first + place
  Index first_head = 0;                  // of the call's query heads among the layer's
  static std::uint64_t row(Index token, Index head) {
    return static_cast<std::uint64_t>(token) | static_cast<std::uint64_t>(head) << 48;
  }
};

// One key/value chunk to attend to. Last dims are contiguous, the others strided, so q, k and v may lie inside one
// projection's output. Query head h reads key/value head h / (heads / kv_heads). q, k and v are all f32, or all bf16:
// what is stored in two bytes is widened where it is read, and every result has the bits that the widened numbers give.
struct Attend {
  ConstView q;                 // [queries, heads, d]
  ConstView k, v;              // [keys, kv_heads, d]
  const MaskPlan& mask;        // queries x keys
  float scale = 1;             // scores are scale * q.k
  std::function<void()> poll;  // called by the rank's main thread between tile rows; may be empty
  const AttentionDropout* dropout = nullptr;
};

// Exact attention, tile by tile (Dao et al. 2022), folding ONE chunk into running f32 sums: local attention is a ring
// of one. Per row: lse = log sum exp(scores), natural; a row that has seen no key has out = 0 and lse = -inf, adds
// nothing to any gradient and never gives NaN. A row's bits depend on the row, the keys and the mask, not on the rows
// beside it.
class AttentionKernel {
 public:
  virtual ~AttentionKernel() = default;

  // out [queries, heads, d] f32, lse [queries, heads] f32: the merge of what they held and this chunk. Start with
  // out = 0, lse = -inf (`start`). Merging two parts a, b: out = out_a - sigmoid(lse_b - lse_a) * (out_a - out_b),
  // lse = logaddexp(lse_a, lse_b).
  virtual void forward(const Attend&, View out, View lse, Arena& scratch) = 0;

  // Adds this chunk's share to dq [queries, heads, d], dk, dv [keys, kv_heads, d], all f32. lse: of the whole row, all
  // chunks. delta [queries, heads] = sum over channels of dout * out, once per layer (`attention_delta`).
  // P = exp(min(0, scale * q.k - lse)), dS = P * (dP - delta), dP = dout.v. With dropout: dV from P, and dP, masked
  // and scaled as in forward; delta as ever (Dao 2023).
  virtual void backward(const Attend&, ConstView lse, ConstView delta, ConstView dout, View dq, View dk, View dv,
                        Arena& scratch) = 0;

  // Upper bound of scratch arena bytes that forward or backward takes at once, within 1.1 of what it measures.
  virtual Index scratch_bytes(Index queries, Index keys, Index heads, Index kv_heads, Index d) const = 0;
};

std::unique_ptr<AttentionKernel> make_reference_kernel();  // the definition, in the simplest loops, sums in f64
std::unique_ptr<AttentionKernel> make_host_kernel();       // Highway tiles over OpenMP

void attention_start(View out, View lse);                         // out = 0, lse = -inf
void attention_delta(ConstView out, ConstView dout, View delta);  // delta [queries, heads]

}  // namespace plasmid
