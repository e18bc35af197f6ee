#pragma once
#include "attention/lsh/host.hpp"
#include "attention/lsh/lsh_attention.hpp"

namespace plasmid {

// One forward or backward of a holder; what the other needs is empty.
struct LshAttention::Pass {
  bool backward = false;
  Index tokens = 0, heads = 0, d = 0;
  float scale = 1;
  detail::ConstRows qk, v, dout, delta;
  const std::uint16_t* buckets = nullptr;  // [heads, rounds, tokens]
  detail::MutableRows out, dqk, dv;
  detail::Rows<double> lse;
  detail::Rows<const double> lse_in;
};

namespace detail {

// Whether the first chunk of a document looks at keys of the round before.
inline bool looks_back(const LshOptions& options) {
  return options.previous == PreviousChunk::sorted && options.rounds > 1;
}
// Whether those keys are candidates at all.
inline bool sees_round_before(const LshOptions& options) { return looks_back(options) && !options.same_bucket; }

inline LshCall open_lsh_call(const LshOptions& options, Index heads, Index d, float scale,
                             std::span<const LshChunk> chunks, Range own) {
  LshCall call;
  call.heads = heads, call.d = d, call.scale = scale;
  call.causal = options.causal, call.same_bucket = options.same_bucket, call.self_before = looks_back(options);
  call.chunks = chunks, call.own = own;
  return call;
}

}  // namespace detail
}  // namespace plasmid
