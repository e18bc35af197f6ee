#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "runtime/base/index.hpp"
#include "runtime/tensor/view.hpp"

namespace plasmid {

// Attention among tokens that hash alike, with one tensor for queries and keys (Kitaev, Kaiser, Levskaya 2020:
// Reformer). In each of `rounds` rounds every head sorts the tokens by (document, bucket, position) and cuts each
// document into chunks of `chunk` tokens, whatever bucket they are of; the last chunk of a document holds what is left
// over. A query's candidates are the keys of its own chunk and of the chunk before it:
//   PreviousChunk::round   the first chunk looks at the last one of the same round
//   PreviousChunk::sorted  the rounds lie end to end: the first chunk looks at the last one of the round before, and
//                          that of round 0 at the last one of the last round (the convention of published weights)
// A document of one chunk has no chunk before: its tokens see each other once. Documents do not see each other.
//
//   key_j = qk_j / |qk_j| (zero where qk_j is), score = scale * qk_i . key_j, gradients flow through both uses of qk.
//   causal: keys of later positions are no candidates. same_bucket: nor those of another bucket, or another round.
//   The score of a token with itself is kLshSelfScore, a constant: it counts only where no other candidate is left.
//   out = the softmax average of v over the candidates of all rounds together, lse = log sum exp over them: the rounds'
//   averages weighted by the softmax of their lse. A token alone in every round has out = v, exactly.
enum class PreviousChunk : std::uint8_t { round, sorted };

struct LshOptions {
  Index rounds = 4;
  Index chunk = 64;
  bool causal = true;
  bool same_bucket = false;
  PreviousChunk previous = PreviousChunk::round;
  Index heads_at_once = 0;  // whose rows travel together where there are several ranks, a matter of memory; 0: all
};

inline constexpr float kLshSelfScore = -5e4f;
inline constexpr Index kMaxLshChunk = 1024;
inline constexpr Index kMaxLshBuckets = 65536;  // a bucket is kept in two bytes

struct LshChunk {
  Range places;                // in the sorted order of a round; the places of a document are those of its tokens
  std::int32_t previous = -1;  // which chunk of the table is before it; -1: none
  std::int32_t next = -1;      // whose `previous` it is
  bool wraps = false;  // previous is the document's last chunk: under PreviousChunk::sorted, of the round before
};

// The chunks of a line of documents, in their order: the same for all heads and rounds. Empty documents have none.
//   document_begin [documents + 1], ascending
std::vector<LshChunk> cut_chunks(std::span<const Index> document_begin, Index chunk);

// What forward and backward attend over: tensors of one holder, tokens may be strided, inner dims are contiguous.
struct LshInput {
  ConstView qk, v;    // [tokens, heads, d] f32
  ConstView buckets;  // [heads, rounds, tokens] u16
  float scale = 1;
  std::span<const Index> document_begin;  // [documents + 1], from 0 to the line's length
};

// The definition in the simplest loops, sums in f64, on one holder of the whole line. Overwrites out [tokens, heads, d]
// f32, lse [tokens, heads] f64 and, where it is given, round_lse [heads, rounds, tokens] f64, of each round alone.
void lsh_reference_forward(const LshInput&, const LshOptions&, View out, View lse, View round_lse = {});
// Overwrites dqk, dv [tokens, heads, d] f32 with the gradients for dout [tokens, heads, d]: the chain rule through each
// round's softmax and through the merge.
void lsh_reference_backward(const LshInput&, const LshOptions&, ConstView dout, View dqk, View dv);

}  // namespace plasmid
