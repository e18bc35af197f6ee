#include "attention/lsh/lsh_attention.hpp"

#include <omp.h>

#include <algorithm>
#include <limits>

#include "attention/kernel/kernel.hpp"
#include "attention/lsh/order.hpp"
#include "attention/lsh/pass.hpp"
#include "runtime/base/check.hpp"
#include "runtime/device/parallel_for.hpp"
#include "runtime/ops/elementwise.hpp"

namespace plasmid {

using detail::LshCall;
using detail::LshHalo;

namespace {

void check_rows(ConstView view, const Shape& shape, const char* name) {
  PLASMID_CHECK(view.dtype == DType::f32 && view.shape == shape)
      << name << " is " << to_string(view.shape) << " " << name_of(view.dtype) << ", not " << to_string(shape);
  PLASMID_CHECK(view.dim(2) <= 1 || view.step(2) == 1) << "the last dim of " << name << " is strided";
}

void check_words(ConstView view, const TensorSpec& spec, const char* name) {
  PLASMID_CHECK(view.spec() == spec && view.contiguous())
      << name << " is " << to_string(view.shape) << " " << name_of(view.dtype) << ", not " << to_string(spec.shape);
}

Index sorting_threads(Index heads) {
  return omp_in_parallel() ? 1 : std::clamp<Index>(heads, 1, omp_get_max_threads());
}

// order [heads, tokens] of one round; counts [threads, buckets]
void sort_heads(std::span<const Index> document_begin, const std::uint16_t* buckets, Index head_step, Index heads,
                Index tokens, Index bucket_count, std::int32_t* order, std::int32_t* counts) {
  const auto n = static_cast<std::size_t>(tokens), words = static_cast<std::size_t>(bucket_count);
  parallel_team(sorting_threads(heads), [&](Index thread, Index team) {
    for (Index h = thread; h < heads; h += team)
      detail::sort_by_bucket({buckets + h * head_step, n}, document_begin, {order + h * tokens, n},
                             {counts + thread * bucket_count, words});
  });
}

}  // namespace

LshAttention::LshAttention(Communicator& ring, const LshOptions& options, const LshBuckets& shape)
    : ring_(ring), options_(options), shape_(shape) {
  PLASMID_CHECK(options.rounds > 0 && options.chunk > 0 && options.chunk <= kMaxLshChunk)
      << options.rounds << " rounds of chunks of " << options.chunk << " tokens";
  PLASMID_CHECK(shape.count() >= 1 && shape.count() <= kMaxLshBuckets) << shape.count() << " buckets";
}

LshPlan LshAttention::plan(const TokenMap& map) const {
  return plan_lsh(map, ring_.rank(), ring_.size(), options_.chunk);
}

void LshAttention::forward(const LshPlan& plan, ConstView qk, ConstView v, ConstView buckets, float scale, View out,
                           View lse, Arena& scratch, Stream& stream) {
  Pass pass;
  pass.tokens = qk.dim(0), pass.heads = qk.dim(1), pass.d = qk.dim(2), pass.scale = scale;
  check_rows(v, qk.shape, "v"), check_rows(qk, qk.shape, "qk"), check_rows(out, qk.shape, "out");
  check_words(buckets, {{pass.heads, options_.rounds, pass.tokens}, DType::u16}, "buckets");
  check_words(lse, {{pass.tokens, pass.heads}, DType::f64}, "lse");
  pass.qk = detail::rows_of(qk), pass.v = detail::rows_of(v), pass.out = detail::rows_of(out);
  pass.buckets = buckets.ptr<std::uint16_t>();
  pass.lse = {lse.ptr<double>(), pass.heads, 1};
  std::ranges::fill(lse.flat<double>(), -std::numeric_limits<double>::infinity());
  ring_.size() == 1 ? run_alone(plan, pass, scratch) : run_sharded(plan, pass, scratch, stream);
}

void LshAttention::backward(const LshPlan& plan, ConstView qk, ConstView v, ConstView buckets, float scale,
                            ConstView out, ConstView lse, ConstView dout, View dqk, View dv, Arena& scratch,
                            Stream& stream) {
  Pass pass;
  pass.backward = true;
  pass.tokens = qk.dim(0), pass.heads = qk.dim(1), pass.d = qk.dim(2), pass.scale = scale;
  const std::pair<ConstView, const char*> rows[] = {{qk, "qk"},     {v, "v"},     {out, "out"},
                                                    {dout, "dout"}, {dqk, "dqk"}, {dv, "dv"}};
  for (const auto& [view, name] : rows) check_rows(view, qk.shape, name);
  check_words(buckets, {{pass.heads, options_.rounds, pass.tokens}, DType::u16}, "buckets");
  check_words(lse, {{pass.tokens, pass.heads}, DType::f64}, "lse");
  const Buffer delta = scratch.take({{pass.tokens, pass.heads}}, "scratch.lsh");
  attention_delta(out, dout, delta.view());
  pass.qk = detail::rows_of(qk), pass.v = detail::rows_of(v), pass.dout = detail::rows_of(dout);
  pass.delta = detail::rows_of(ConstView(delta.view()));
  pass.dqk = detail::rows_of(dqk), pass.dv = detail::rows_of(dv);
  pass.buckets = buckets.ptr<std::uint16_t>();
  pass.lse_in = {lse.ptr<double>(), pass.heads, 1};
  ops::fill(dqk, 0, stream), ops::fill(dv, 0, stream);
  ring_.size() == 1 ? run_alone(plan, pass, scratch) : run_sharded(plan, pass, scratch, stream);
}

void LshAttention::run_alone(const LshPlan& plan, Pass& pass, Arena& scratch) const {
  const Index tokens = pass.tokens, heads = pass.heads, rounds = options_.rounds;
  PLASMID_CHECK(plan.map->total() == tokens && plan.ranks == 1) << tokens << " tokens of " << plan.map->total();
  std::vector<LshHalo> halos;  // of the round before
  Index halo_rows = 0;
  if (detail::sees_round_before(options_))
    for (std::size_t c = 0; c < plan.chunks.size(); ++c)
      if (plan.chunks[c].wraps) {
        halos.push_back({static_cast<std::int32_t>(c), halo_rows, false});
        halo_rows += plan.chunk(plan.chunks[c].previous).places.size();
      }
  const Buffer order_buffer = scratch.take({{heads, tokens}, DType::i32}, "scratch.lsh");
  const Buffer counts = scratch.take({{sorting_threads(heads), shape_.count()}, DType::i32}, "scratch.lsh");
  const Buffer halo_buffer = scratch.take({{heads, halo_rows}, DType::i32}, "scratch.lsh");
  auto *order = order_buffer.view().ptr<std::int32_t>(), *before = halo_buffer.view().ptr<std::int32_t>();
  const auto sort = [&](Index round) {
    sort_heads(plan.documents, pass.buckets + round * tokens, rounds * tokens, heads, tokens, shape_.count(), order,
               counts.view().ptr<std::int32_t>());
  };
  LshCall call = detail::open_lsh_call(options_, heads, pass.d, pass.scale, plan.chunks, {0, std::ssize(plan.chunks)});
  call.order = order, call.order_step = tokens;
  call.halos = halos, call.halo_rows = before, call.halo_step = halo_rows;
  call.bucket_step = rounds * tokens;
  call.qk = pass.qk, call.v = pass.v, call.out = pass.out, call.lse = pass.lse;
  call.dout = pass.dout, call.delta = pass.delta, call.lse_in = pass.lse_in, call.dqk = pass.dqk, call.dv = pass.dv;
  if (!halos.empty()) sort(rounds - 1);
  for (Index round = 0; round < rounds; ++round) {
    for (const LshHalo& halo : halos) {
      const Range places = plan.chunk(plan.chunk(halo.chunk).previous).places;
      for (Index h = 0; h < heads; ++h)
        std::copy_n(order + h * tokens + places.begin, places.size(), before + h * halo_rows + halo.first);
    }
    sort(round);
    call.bucket = pass.buckets + round * tokens;
    if (pass.backward) {
      detail::lsh_host_backward(call, options_.chunk, scratch);
    } else {
      detail::lsh_host_forward(call, options_.chunk, scratch);
    }
  }
}

Index LshAttention::scratch_bytes(Index tokens, Index heads, Index d) const {
  if (ring_.size() > 1) return sharded_scratch_bytes(tokens, heads, d);
  const Index chunks = ceil_div(tokens, options_.chunk),
              halo = detail::sees_round_before(options_) && chunks > 1 ? 1 : 0;
  const Index alone = arena_bytes({{tokens, heads}}) + arena_bytes({{heads, tokens}, DType::i32}) +
                      arena_bytes({{sorting_threads(heads), shape_.count()}, DType::i32}) +
                      arena_bytes({{heads, halo * options_.chunk}, DType::i32}) +
                      detail::lsh_host_scratch_bytes(heads, d, options_.chunk, chunks, halo);
  return alone;
}

}  // namespace plasmid
