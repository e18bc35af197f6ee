#include <algorithm>
#include <array>
#include <utility>

#include "attention/ring/relay.hpp"
#include "attention/ring/running.hpp"
#include "parallel/cp/partition.hpp"

namespace plasmid {
namespace {

using detail::GradientRelay;
using detail::KeysAndValues;
using detail::KeyValueRelay;
using detail::RunningSums;

// Equal on two ranks that hold the same map and pattern (FNV-1a over their words).
[[maybe_unused]] std::uint64_t fingerprint(const TokenMap& map, const Pattern& pattern) {
  std::uint64_t hash = 0xcbf29ce484222325;
  const auto mix = [&hash](Index word) { hash = (hash ^ static_cast<std::uint64_t>(word)) * 0x100000001b3; };
  mix(pattern.left), mix(pattern.right), mix(pattern.chunk);
  for (const Index begin : map.document_begin) mix(begin);
  for (const auto& shard : map.shards) {
    mix(-1);
    for (const Range range : shard) mix(range.begin), mix(range.end);
  }
  for (const std::uint8_t valid : map.key_valid) mix(valid != 0);
  return hash;
}

void check_shapes(const RingPlan& plan, ConstView q, ConstView k, ConstView v) {
  PLASMID_CHECK(plan.map) << "an empty plan";
  const Index tokens = token_count(plan.map->owned());
  PLASMID_CHECK(q.shape.rank == 3 && q.dim(0) == tokens) << to_string(q.shape) << " for " << tokens << " tokens";
  PLASMID_CHECK(k.shape.rank == 3 && k.dim(0) == tokens && k.shape == v.shape)
      << to_string(k.shape) << " and " << to_string(v.shape) << " for " << tokens << " tokens";
  PLASMID_CHECK(q.dtype == k.dtype && k.dtype == v.dtype)
      << "q, k and v are " << name_of(q.dtype) << ", " << name_of(k.dtype) << " and " << name_of(v.dtype);
}

AttentionDropout dropout_of(const RingPlan& plan, const Hop& hop, const DropoutMask& mask) {
  const TokenMap& map = *plan.map;
  return {mask, map.owned(), map.shards[static_cast<std::size_t>(hop.source)], map.first};
}

// Some query heads and the key heads that they read.
struct Heads {
  Range q, kv;

  template <class AnyView>
  AnyView of_q(const AnyView& view) const {
    return view.slice(1, q.begin, q.end);
  }
  template <class AnyView>
  AnyView of_kv(const AnyView& view) const {
    return view.slice(1, kv.begin, kv.end);
  }
};

// Backward works on this rank's own keys in two parts, before the travelling chunks and after: the first hides the
// arrival of the first chunk, the second the way home of the last gradients. Backward's five products against
// forward's two leave each half longer than a hop of forward, so that a transfer which hides there hides here (a third,
// where there are three heads, is a sixth shorter). A lone head is not divided.
std::pair<Heads, Heads> halves(const Heads& all) {
  const Index kv = all.kv.size() / 2, group = all.q.size() / std::max<Index>(1, all.kv.size());
  if (kv > 0) return {{{0, kv * group}, {0, kv}}, {{kv * group, all.q.end}, {kv, all.kv.end}}};
  const Index q = all.q.size() / 2;
  if (q == 0) return {all, {}};
  return {{{0, q}, all.kv}, {{q, all.q.end}, all.kv}};
}

}  // namespace

RingAttention::RingAttention(Communicator& ring, AttentionKernel& kernel, const Pattern& pattern)
    : ring_(ring), kernel_(kernel), pattern_(pattern) {}

RingPlan RingAttention::plan(const TokenMap& map) {
  ++plans_;
  PLASMID_CHECK(map.shard == ring_.rank()) << "the map of shard " << map.shard << " on rank " << ring_.rank();
#ifndef NDEBUG
  const std::uint64_t mine = fingerprint(map, pattern_);
  PLASMID_CHECK(ring_.agree_max(mine) == mine && ring_.agree_max(~mine) == ~mine)
      << "the ranks of a ring hold different token maps";
#endif
  return plan_ring(map, pattern_, ring_.rank(), ring_.size());
}

void RingAttention::forward(const RingPlan& plan, ConstView q, ConstView k, ConstView v, float scale, View out,
                            View lse, Arena& scratch, Stream& stream, const DropoutMask& dropout) {
  check_shapes(plan, q, k, v);
  RunningSums sums(out, lse, scratch);
  KeyValueRelay chunks(ring_, plan, k, v, scratch, stream);
  for (std::size_t hop = 0; hop < plan.hops.size(); ++hop) {
    chunks.post(hop);
    if (plan.hops[hop].work) {
      const KeysAndValues chunk = chunks.chunk(hop);
      const AttentionDropout dropped = dropout_of(plan, plan.hops[hop], dropout);
      Attend call{q, chunk.k, chunk.v, plan.mask(plan.hops[hop]), scale, {}, dropout ? &dropped : nullptr};
      call.poll = [this] { ring_.poll(); };
      const RunningSums::Part part = sums.part();
      kernel_.forward(call, part.out, part.lse, scratch);
      sums.merge();
    }
    chunks.wait();
  }
}

void RingAttention::backward(const RingPlan& plan, ConstView q, ConstView k, ConstView v, ConstView out, ConstView lse,
                             ConstView dout, float scale, View dq, View dk, View dv, Arena& scratch, Stream& stream,
                             const DropoutMask& dropout) {
  check_shapes(plan, q, k, v);
  KeyValueRelay chunks(ring_, plan, k, v, scratch, stream);
  chunks.post(0);
  ops::fill(dq, 0, stream);
  const Buffer delta = scratch.take({{q.dim(0), q.dim(1)}}, "ring.delta");
  attention_delta(out, dout, delta.view());
  GradientRelay gradients(ring_, plan, dk, dv, scratch, stream);
  const auto work = [&](const Hop& hop, const KeysAndValues& chunk, const std::array<View, 2>& sums,
                        const Heads& part) {
    if (!hop.work || part.q.size() == 0) return;
    AttentionDropout dropped = dropout_of(plan, hop, dropout);
    dropped.first_head = part.q.begin;
    Attend call{part.of_q(q), part.of_kv(chunk.k),         part.of_kv(chunk.v), plan.mask(hop), scale,
                {},           dropout ? &dropped : nullptr};
    call.poll = [this] { ring_.poll(); };
    kernel_.backward(call, part.of_q(lse), part.of_q(ConstView(delta.view())), part.of_q(dout), part.of_q(dq),
                     part.of_kv(sums[0]), part.of_kv(sums[1]), scratch);
  };

  const Heads all{{0, q.dim(1)}, {0, k.dim(1)}};
  const auto [first, last] = plan.hops.size() > 1 ? halves(all) : std::pair(all, Heads{});
  for (std::size_t hop = 0; hop < plan.hops.size(); ++hop) {
    if (plan.hops[hop].work) work(plan.hops[hop], chunks.chunk(hop), gradients.target(hop), hop == 0 ? first : all);
    gradients.pass_on(hop);
    chunks.wait();
    chunks.post(hop + 1);
  }
  chunks.release();
  if (!plan.hops.empty()) work(plan.hops[0], {k, v}, {dk, dv}, last);
  gradients.finish();
}

Index RingAttention::scratch_bytes(Index tokens, Index heads, Index kv_heads, Index d, DType storage) const {
  const Index keys = arena_bytes({{2, tokens, kv_heads, d}, storage}), sums = arena_bytes({{2, tokens, kv_heads, d}});
  const Index delta = arena_bytes({{tokens, heads}});
  const Index kernel = kernel_.scratch_bytes(tokens, tokens, heads, kv_heads, d);
  if (ring_.size() == 1) return delta + kernel;
  // Two ranks: the gradients of hop 1 are at work, then on their way beside those that come home.
  const Index gradients = ring_.size() == 2 ? sums + std::max(sums, kernel) : 3 * sums + kernel;
  const Index part = arena_bytes({{tokens, heads, d}}) + delta + arena_bytes({{tokens, heads}, DType::f64});
  return 2 * keys + std::max(part + kernel, delta + gradients);
}

double RingAttention::wire_bytes(Index tokens, Index kv_heads, Index d, DType storage) const {
  const Shape chunk{2, tokens, kv_heads, d};
  const Index keys = TensorSpec{chunk, storage}.bytes(), sums = TensorSpec{chunk}.bytes();
  return static_cast<double>(2 * keys + sums) * (ring_.size() - 1);  // keys and values twice, gradients once
}

}  // namespace plasmid
