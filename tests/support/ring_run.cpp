#include "tests/support/ring_run.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "runtime/ops/elementwise.hpp"

namespace plasmid::test {
namespace {

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

// [tokens, width] rows with several tensors side by side, as one projection's output.
struct Fused {
  Index tokens, width;
  std::vector<float> words;
  Fused(Index token_count, Index row_width, float fill)
      : tokens(token_count), width(row_width), words(at(token_count * row_width), fill) {}
  View part(Index begin, Index heads, Index d) {
    View view(reinterpret_cast<std::byte*>(words.data() + begin), {{tokens, heads, d}});
    view.stride[0] = width;
    return view;
  }
};

void take_rows(const LocalIndex& local, const std::vector<float>& whole, View part) {
  const Index width = part.dim(1) * part.dim(2);
  for (Index t = 0; t < part.dim(0); ++t)
    std::copy_n(whole.begin() + local.global(t) * width, width, part.ptr<float>() + t * part.step(0));
}

// Every rank's rows in the whole tensor: zero elsewhere, and a sum with zeros is exact.
std::vector<float> join_rows(Communicator& ring, const LocalIndex& local, Index total, ConstView part, Stream& stream) {
  const Index width = part.dim(1) * part.dim(2);
  std::vector<float> whole(at(total * width), 0);
  for (Index t = 0; t < part.dim(0); ++t)
    std::copy_n(part.ptr<float>() + t * part.step(0), width, whole.begin() + local.global(t) * width);
  ring.all_reduce(view_of(std::span(whole)), Reduce::sum, stream).wait(stream);
  return whole;
}

}  // namespace

AttentionCase problem_of(const TokenLine& line, Index heads, Index kv_heads, Index d, unsigned seed) {
  const TokenLine whole = line.split(1, Layout::contiguous);
  return random_case(plan_mask(whole.map(0), 0, 0, line.pattern), heads, kv_heads, d, seed);
}

RingRun run_ring(Communicator& ring, AttentionKernel& kernel, const TokenLine& line, const AttentionCase& problem) {
  const TokenMap map = line.map(ring.rank());
  const LocalIndex local(map.owned());
  const Index n = local.size(), heads = problem.heads, kv_heads = problem.kv_heads, d = problem.d;
  const Index q_width = heads * d, k_width = kv_heads * d, width = q_width + 2 * k_width;
  Fused inputs(n, width, 0), gradients(n, width, 7), outs(n, 2 * q_width, 7);  // 7: all results are overwritten
  View q = inputs.part(0, heads, d), k = inputs.part(q_width, kv_heads, d);
  View v = inputs.part(q_width + k_width, kv_heads, d);
  const View out = outs.part(0, heads, d), dout = outs.part(q_width, heads, d);
  const View dq = gradients.part(0, heads, d), dk = gradients.part(q_width, kv_heads, d);
  const View dv = gradients.part(q_width + k_width, kv_heads, d);
  take_rows(local, problem.q, q), take_rows(local, problem.k, k), take_rows(local, problem.v, v);
  Stream stream;
  std::vector<BFloat16> narrow(problem.storage == DType::bf16 ? inputs.words.size() : 0);
  if (problem.storage == DType::bf16)
    for (View* tensor : {&q, &k, &v}) {
      View stored = *tensor;
      stored.data = reinterpret_cast<std::byte*>(narrow.data() + (tensor->ptr<float>() - inputs.words.data()));
      stored.dtype = DType::bf16;
      ops::round(*tensor, stored, stream);
      *tensor = stored;
    }
  take_rows(local, problem.dout, dout);
  std::vector<float> lse_words(at(n * heads), 7);
  const View lse(reinterpret_cast<std::byte*>(lse_words.data()), {{n, heads}});

  Index largest = 0;
  for (const auto& shard : line.shards) largest = std::max(largest, token_count(shard));
  Ledger ledger;
  RingAttention attention(ring, kernel, line.pattern);
  Arena scratch(Arena::Kind::pool, ledger, attention.scratch_bytes(largest, heads, kv_heads, d, problem.storage));
  const RingPlan plan = attention.plan(map);
  attention.forward(plan, q, k, v, problem.scale, out, lse, scratch, stream, problem.dropout);
  attention.backward(plan, q, k, v, out, lse, dout, problem.scale, dq, dk, dv, scratch, stream, problem.dropout);
  EXPECT_EQ(scratch.live_bytes(), 0);

  const auto join = [&](ConstView part) { return join_rows(ring, local, line.total(), part, stream); };
  RingRun run;
  run.result.out = join(out), run.result.lse = join(View(lse.data, {{n, heads, 1}}));
  run.result.dq = join(dq), run.result.dk = join(dk), run.result.dv = join(dv);
  run.scratch_peak = scratch.peak_bytes();
  return run;
}

}  // namespace plasmid::test
