#pragma once
#include <string>
#include <vector>

#include "attention/kernel/kernel.hpp"
#include "launcher/bench/attention_oracle.hpp"
#include "parallel/cp/partition.hpp"

namespace plasmid::bench {

// One holder's part of an attention problem: inputs from the oracle's numbers, and room for results. q, k and v lie in
// one projection's output, as in a model.
class AttentionShard {
 public:
  AttentionShard(const AttentionOracle&, Shards, Index shard);
  AttentionShard(const AttentionShard&) = delete;
  AttentionShard& operator=(const AttentionShard&) = delete;

  const AttentionShape& shape() const { return oracle_.shape(); }
  const TokenMap& map() const { return map_; }
  Index tokens() const { return tokens_; }
  MaskPlan mask(Index key_shard) const { return plan_mask(map_, map_.shard, key_shard, shape().pattern); }

  // [tokens, heads, d], k and v of kv_heads; lse, delta [tokens, heads].
  View q() { return columns(0, shape().heads); }
  View k() { return columns(shape().heads, shape().kv_heads); }
  View v() { return columns(shape().heads + shape().kv_heads, shape().kv_heads); }
  View dout() { return rows(dout_, shape().heads); }
  View out() { return rows(out_, shape().heads); }
  View dq() { return rows(dq_, shape().heads); }
  View dk() { return rows(dk_, shape().kv_heads); }
  View dv() { return rows(dv_, shape().kv_heads); }
  View lse() { return view_of(std::span(lse_)).reshape({tokens_, shape().heads}); }
  View delta() { return view_of(std::span(delta_)).reshape({tokens_, shape().heads}); }

  // What this holder's queries have, to be gathered: lse as it was computed; sums of dout * out.
  QuerySums sums();
  // Some rows of out, lse, dq, dk and dv against the oracle, within what f32 gives them; `all` has the sums of every
  // token of the line. Throws Error{software} naming the element and both values.
  void check(const QuerySums& all);

 private:
  View columns(Index first, Index heads);
  View rows(std::vector<float>& values, Index heads) {
    return view_of(std::span(values)).reshape({tokens_, heads, shape().d});
  }
  void check_query(Index local, Index head);
  void check_key(Index local, Index kv_head, const QuerySums& all);

  const AttentionOracle& oracle_;
  Shards shards_;
  LocalIndex places_;
  Index tokens_;
  std::vector<Index> document_begin_;
  TokenMap map_;
  std::vector<float> qkv_, dout_, out_, dq_, dk_, dv_, lse_, delta_;
};

}  // namespace plasmid::bench
