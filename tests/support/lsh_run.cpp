#include "tests/support/lsh_run.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "parallel/comm/self.hpp"

namespace plasmid::test {
namespace {

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

// [tokens, width] rows with several tensors side by side.
struct Fused {
  Index tokens, heads, d, parts;
  std::vector<float> words;
  Fused(Index n, const LshCase& problem, Index count, float fill)
      : tokens(n), heads(problem.heads), d(problem.d), parts(count), words(at(n * heads * d * count), fill) {}
  View part(Index i) {
    View view(reinterpret_cast<std::byte*>(words.data() + i * heads * d), {{tokens, heads, d}});
    view.stride[0] = heads * d * parts;
    return view;
  }
};

void take_rows(const LocalIndex& local, const std::vector<float>& whole, View part) {
  const Index width = part.dim(1) * part.dim(2);
  for (Index t = 0; t < part.dim(0); ++t)
    std::copy_n(whole.begin() + local.global(t) * width, width, part.ptr<float>() + t * part.step(0));
}

// Every rank's rows in the whole tensor: zero elsewhere, and a sum with zeros is exact.
template <class T>
std::vector<T> join_rows(Communicator& ring, const LocalIndex& local, Index total, ConstView part) {
  const Index width = part.shape.rank == 3 ? part.dim(1) * part.dim(2) : part.dim(1);
  std::vector<T> whole(at(total * width), 0);
  for (Index t = 0; t < part.dim(0); ++t)
    std::copy_n(part.ptr<T>() + t * part.step(0), width, whole.begin() + local.global(t) * width);
  Stream stream;
  ring.all_reduce(view_of(std::span(whole)), Reduce::sum, stream).wait(stream);
  return whole;
}

}  // namespace

LshRun run_lsh(Communicator& ring, const LshCase& problem, const Shards& shards) {
  TokenMap map;
  map.shards = shards, map.shard = ring.rank(), map.document_begin = problem.document_begin;
  const LocalIndex local(map.owned());
  const Index n = local.size(), sets = problem.heads * problem.options.rounds, total = problem.tokens();
  Fused inputs(n, problem, 3, 0), results(n, problem, 3, 7);  // 7: all results are overwritten
  take_rows(local, problem.qk, inputs.part(0)), take_rows(local, problem.v, inputs.part(1));
  take_rows(local, problem.dout, inputs.part(2));
  std::vector<std::uint16_t> buckets(at(sets * n));
  for (Index set = 0; set < sets; ++set)
    for (Index t = 0; t < n; ++t) buckets[at(set * n + t)] = problem.buckets[at(set * total + local.global(t))];
  const ConstView bucket_view =
      view_of(std::span<const std::uint16_t>(buckets)).reshape({problem.heads, problem.options.rounds, n});
  std::vector<double> lse(at(n * problem.heads), 7);
  const View lse_view = view_of(std::span(lse)).reshape({n, problem.heads});
  const Index most = problem.buckets.empty() ? 1 : *std::ranges::max_element(problem.buckets) + 1;

  Stream stream;
  Ledger ledger;
  Arena scratch(Arena::Kind::pool, ledger);
  LshAttention attention(ring, problem.options, {most, 1});
  const LshPlan plan = attention.plan(map);
  const View out = results.part(0), dqk = results.part(1), dv = results.part(2);
  attention.forward(plan, inputs.part(0), inputs.part(1), bucket_view, problem.scale, out, lse_view, scratch, stream);
  attention.backward(plan, inputs.part(0), inputs.part(1), bucket_view, problem.scale, out, lse_view, inputs.part(2),
                     dqk, dv, scratch, stream);
  EXPECT_EQ(scratch.live_bytes(), 0);
  LshRun run;
  run.result = {join_rows<float>(ring, local, total, out), join_rows<float>(ring, local, total, dqk),
                join_rows<float>(ring, local, total, dv), join_rows<double>(ring, local, total, lse_view)};
  run.traffic = attention.traffic(), run.scratch_peak = scratch.peak_bytes();
  run.scratch_bound = attention.scratch_bytes(n, problem.heads, problem.d);
  run.imbalance = attention.send_imbalance(stream);
  return run;
}

LshRun run_lsh(const LshCase& problem) {
  return run_lsh(*make_self_communicator(), problem, {{{0, problem.tokens()}}});
}

}  // namespace plasmid::test
