#include "launcher/planner/timed_work.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <functional>
#include <numeric>

#include "attention/kernel/kernel.hpp"
#include "parallel/comm/self.hpp"
#include "runtime/nn/whole_store.hpp"
#include "runtime/optim/optimizer.hpp"

namespace plasmid {
namespace {

double median_seconds(const std::function<void()>& work) {
  work();
  std::array<double, 5> seconds{};
  for (double& one : seconds) {
    const auto start = std::chrono::steady_clock::now();
    work();
    one = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  std::ranges::nth_element(seconds, seconds.begin() + 2);
  return seconds[2];
}

// Scores of size 1: a softmax as in a model.
std::vector<float> values(Index count) {
  std::vector<float> result(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < result.size(); ++i)
    result[i] = static_cast<float>((i * 2654435761u) >> 8 & 0xffff) * 3e-5f - 1;
  return result;
}

}  // namespace

PairTime time_attention(const ModelShape& shape, Index tokens) {
  const Index group = shape.heads / shape.kv_heads, d = shape.head_dim();
  const Index kv_heads = std::clamp<Index>(8 / group, 1, shape.kv_heads), heads = kv_heads * group;
  std::vector<float> q = values(tokens * heads * d), k = values(tokens * kv_heads * d), v = k, dout = q, out(q.size()),
                     dq(q.size()), dk(k.size()), dv(k.size());
  std::vector<float> lse(static_cast<std::size_t>(tokens * heads)), delta(lse.size());
  const auto rows = [&](std::vector<float>& x, Index many) { return view_of(std::span(x)).reshape({tokens, many, d}); };
  const auto sums = [&](std::vector<float>& x) { return view_of(std::span(x)).reshape({tokens, heads}); };
  MaskPlan mask{.queries = tokens, .keys = tokens, .rows = {}, .tile = 0, .tiles = {}, .key_valid = {}};
  mask.rows.assign(static_cast<std::size_t>(tokens), {0, static_cast<std::int32_t>(tokens)});

  Ledger ledger;
  Arena scratch(Arena::Kind::pool, ledger);
  const auto kernel = make_host_kernel();
  const Attend call{
      rows(q, heads), rows(k, kv_heads), rows(v, kv_heads), mask, 1 / std::sqrt(static_cast<float>(d)), {}, nullptr};
  const double pairs = static_cast<double>(tokens) * static_cast<double>(tokens) * static_cast<double>(heads);
  PairTime time{static_cast<double>(tokens)};
  time.forward = median_seconds([&] {
                   attention_start(rows(out, heads), sums(lse));
                   kernel->forward(call, rows(out, heads), sums(lse), scratch);
                 }) /
                 pairs;
  attention_delta(rows(out, heads), rows(dout, heads), sums(delta));
  time.backward = median_seconds([&] {
                    kernel->backward(call, sums(lse), sums(delta), rows(dout, heads), rows(dq, heads),
                                     rows(dk, kv_heads), rows(dv, kv_heads), scratch);
                  }) /
                  pairs;
  return time;
}

double layer_seconds(const ModelShape& shape, Index tokens) {
  const auto self = make_self_communicator();
  const auto model = make_language_model(shape, *self);
  Ledger ledger;
  Arena pool(Arena::Kind::pool, ledger), saved(Arena::Kind::stack, ledger), scratch(Arena::Kind::pool, ledger);
  WholeStore store(*model, pool);
  store.initialize(1);
  Stream stream;
  std::vector<std::int32_t> ids(static_cast<std::size_t>(tokens)), position(ids.size()), zero(ids.size());
  std::iota(position.begin(), position.end(), 0);
  for (std::size_t i = 0; i < ids.size(); ++i)
    ids[i] = static_cast<std::int32_t>(static_cast<Index>(i) % shape.vocabulary);
  const std::vector<std::vector<Range>> shards = {{{0, tokens}}};
  const Index documents[] = {0, tokens};
  TokenMap map;
  map.position = view_of(std::span(position));
  map.document = map.sample = view_of(std::span(zero));
  map.shards = shards, map.document_begin = documents;

  double loss = 0;
  Index counted = 0;
  const double one = 1;
  const ConstView x[] = {view_of(std::span(ids)), view_of(std::span(ids))};
  const View y[] = {view_of(std::span(&loss, 1)), view_of(std::span(&counted, 1))};
  const ConstView dy[] = {view_of(std::span(&one, 1)), {}};
  const Gradient dx[] = {{{}, Write::skip}, {{}, Write::skip}};
  return median_seconds([&] {
    Context context{.compute = stream,
                    .saved = saved,
                    .scratch = scratch,
                    .weights = store,
                    .rng = {},
                    .tokens = map,
                    .sources = {},
                    .training = true};
    SavedPtr kept = model->forward(context, Keep::all, x, y);
    model->backward(context, std::move(kept), x, dy, dx);
  });
}

double optimizer_bytes_per_second() {
  std::vector<float> weights = values(Index{1} << 22), gradients(weights.size()), first(weights.size()),
                     second(weights.size());
  const double seconds = median_seconds([&] { adamw_step({}, 1, 1.0f, weights, gradients, first, second); });
  return 8.0 * 4.0 * static_cast<double>(weights.size()) / seconds;
}

}  // namespace plasmid
