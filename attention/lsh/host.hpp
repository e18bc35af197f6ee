#pragma once
// One round of LSH attention on the host, as the scheduler (host.cpp) and the code of each instruction set
// (host_forward.cpp, host_backward.cpp) share it.
//
// A stretch is a run of neighbouring chunks of one head, worked on by one thread: the keys of a chunk are packed once
// and serve its own queries and those of the next chunk. Whatever is summed over tokens is summed within one chunk's
// queries, then A (from a key's own chunk) and B (from the next one) are added: no bit depends on where stretches end.
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "attention/kernel/operands.hpp"
#include "attention/lsh/lsh.hpp"
#include "runtime/tensor/arena.hpp"

namespace plasmid::detail {

// Rows of the chunk before `chunk`, where they are not simply those of chunk - 1 or of the same round and holder.
struct LshHalo {
  std::int32_t chunk = 0;
  Index first = 0;         // of halo_rows
  bool other_rows = true;  // rows of the halo alone: what they receive is added at once
};

// One round over the chunks [own.begin, own.end) of the table. Rows are tokens of [tokens, heads, d] tensors, or copies
// that came from other holders; what forward or backward does not need is empty.
struct LshCall {
  Index heads = 0, d = 0;
  float scale = 1;
  bool causal = true, same_bucket = false;
  bool self_before = false;  // the chunk before may hold the query itself (PreviousChunk::sorted)
  std::span<const LshChunk> chunks;
  Range own;                                // chunks
  const std::int32_t* order = nullptr;      // [heads, places of `own`]: the row at each place
  Index order_step = 0;                     // from head to head
  std::span<const LshHalo> halos;           // by chunk
  const std::int32_t* halo_rows = nullptr;  // [heads, halo_step]
  Index halo_step = 0;
  const std::int32_t* position = nullptr;  // [rows]; null: a row's number is its position
  const std::uint16_t* bucket = nullptr;   // same_bucket only: [heads, bucket_step], by row
  Index bucket_step = 0;

  ConstRows qk, v;
  MutableRows out;            // merged with what it holds, by lse
  Rows<double> lse;           // start: -inf
  ConstRows dout, delta;      // backward
  Rows<const double> lse_in;  // of all rounds
  MutableRows dqk, dv;        // added to

  const LshChunk& chunk(Index c) const { return chunks[static_cast<std::size_t>(c)]; }
  const std::int32_t* rows_of_chunk(Index head, Index c) const {
    return order + head * order_step + chunk(c).places.begin - chunk(own.begin).places.begin;
  }
  const LshHalo* halo(Index c) const;
  // Rows of the chunk before c; null where there is none.
  const std::int32_t* rows_before(Index head, Index c) const;
  std::int32_t position_of(Index row) const { return position ? position[row] : static_cast<std::int32_t>(row); }
};

// Where backward leaves the halves of a chunk's gradients that two stretches share.
struct LshSplit {
  std::int32_t chunk = 0;
  bool wrap = false;  // only what came through a halo of the holder's own rows: added after all else
};
struct LshSplits {
  std::span<const LshSplit> list;  // by (wrap, chunk)
  float* parts = nullptr;          // [heads][list][2 (A, B)][part]
  Index part = 0;                  // floats: [2 (dqk, dv)][chunk][d]
  float* of(Index head, Index split, bool from_next) const {
    return parts + ((head * std::ssize(list) + split) * 2 + (from_next ? 1 : 0)) * part;
  }
  Index find(Index chunk, bool wrap) const;  // -1: not split
};

Index lsh_forward_scratch_floats(Index chunk, Index d);
Index lsh_backward_scratch_floats(Index chunk, Index d);
void lsh_forward_stretch(const LshCall&, Index head, Range chunks, Index chunk, float* scratch);
void lsh_backward_stretch(const LshCall&, const LshSplits&, Index head, Range chunks, Index chunk, float* scratch);

// out and lse of one row become the merge of what they hold and (part, part_lse).
void lsh_merge_row(const float* part, double part_lse, Index d, float* out, double* lse);

// Adds A + B of a split chunk to its rows.
void lsh_add_split(const LshCall&, const LshSplits&, Index head, Index split, Index chunk);

// Both passes over the team. `chunk` is LshOptions::chunk, at most kMaxLshChunk.
void lsh_host_forward(const LshCall&, Index chunk, Arena& scratch);
void lsh_host_backward(const LshCall&, Index chunk, Arena& scratch);
// Upper bound of scratch arena bytes of either, for `chunks` chunks, `own_halos` of them with a halo of own rows.
Index lsh_host_scratch_bytes(Index heads, Index d, Index chunk, Index chunks, Index own_halos);

}  // namespace plasmid::detail
