#include "launcher/planner/step_time.hpp"

#include <algorithm>
#include <limits>
#include <set>

#include "attention/model/language_model.hpp"
#include "launcher/planner/pairs.hpp"
#include "parallel/comm/self.hpp"
#include "parallel/dp/gradients.hpp"
#include "runtime/base/check.hpp"

namespace plasmid {
namespace {

constexpr double kOptimizerBytes = 36;  // of a parameter: the norm reads its gradient; AdamW reads four, writes four

Rates over_free_links(Rates rates) {
  rates.between = rates.inside = {0, std::numeric_limits<double>::infinity(), 0};
  return rates;
}

// Seconds of one layer's forward and backward turn.
double ring_seconds(const StepShape& shape, const RingLoad& load, const Rates& rates, int ranks_per_host) {
  const Network network{rates.between, rates.inside, ranks_per_host};
  return (shape.attention_again ? 2 : 1) * forward_seconds(load, network) + backward_seconds(load, network);
}

double token_seconds(const StepShape& shape, const Rates& rates) {
  double seconds = shape.product_flops / rates.product_flops;
  if (rates.bytes > 0) seconds += shape.pointwise_bytes / rates.bytes;
  return (shape.products_again ? 4.0 / 3 : 1) * seconds;  // forward is a third
}

}  // namespace

StepShape step_shape(const Job& job) {
  const ModelShape& model = job.shape;
  StepShape shape;
  shape.layers = model.layers, shape.heads = model.heads, shape.kv_heads = model.kv_heads;
  shape.head_dim = model.head_dim();
  shape.sequence = job.fields.data().sequence_length();
  shape.micro_batch = job.fields.train().micro_batch();
  shape.passes = job.fields.train().batch() / job.fields.mesh().dp() / shape.micro_batch;
  if (job.fields.attention().window_left() > 0) shape.pattern.left = job.fields.attention().window_left();
  shape.products_again = job.fields.train().recompute() != v1::Train::NONE;
  shape.attention_again = job.fields.train().recompute() == v1::Train::ALL;

  const auto self = make_self_communicator();
  const auto language_model = make_language_model(model, *self);
  std::set<const Parameter*> seen;
  language_model->parameters([&](const ParameterPtr& parameter) {
    if (seen.insert(parameter.get()).second) shape.parameters += static_cast<double>(parameter->shape.count());
  });
  // Attention's FLOPs grow with the square of the tokens, all others with the tokens.
  const auto flops = [&](Index tokens) {
    const TensorSpec in[] = {{{tokens}, DType::i32}, {{tokens}, DType::i32}};
    return language_model->cost(in, Keep::all).flops;
  };
  shape.product_flops = 2 * flops(1) - flops(2) / 2;
  // Norms, sums and rotations read and write the width about 12 times, the activation the hidden channels about three
  // times; backward does twice that.
  shape.pointwise_bytes = 3 * 4.0 * static_cast<double>(model.layers) *
                          (12.0 * static_cast<double>(model.width) + 3.0 * static_cast<double>(model.mlp_width));
  return shape;
}

RingLoad ring_load(const StepShape& shape, const Rates& rates, int ranks, Layout layout) {
  const Shards shards = make_shards(1, shape.sequence, ranks, layout);
  const Index document[] = {0, shape.sequence};
  TokenMap map;
  map.shards = shards, map.document_begin = document;
  RingLoad load;
  const Index divided = shape.kv_heads > 1 ? shape.kv_heads : shape.heads;  // as RingAttention::backward does
  load.own_first = divided > 1 ? static_cast<double>(divided / 2) / static_cast<double>(divided) : 1;
  load.hops = ring_schedules(map, shape.pattern, ranks);
  const auto windows = static_cast<double>(shape.micro_batch), heads = static_cast<double>(shape.heads);
  const double out_bytes = 4.0 * heads * static_cast<double>(shape.head_dim);  // of a token
  const auto pointwise = [&](double bytes) { return rates.bytes > 0 ? bytes / rates.bytes : 0; };
  for (const auto& shard : shards)
    load.chunk_bytes.push_back(windows * shape.chunk_token_bytes() * static_cast<double>(token_count(shard)));
  for (std::size_t rank = 0; rank < shards.size(); ++rank) {
    const auto tokens = static_cast<double>(token_count(shards[rank]));
    const PairTime pair = rates.pair_at(tokens);
    std::vector<HopWork> work;
    for (const Hop& hop : load.hops[rank]) {
      HopWork cost;
      const auto source = static_cast<std::size_t>(hop.source);
      if (hop.work) {
        const double pairs = windows * heads * count_pairs(shards[rank], shards[source], shape.pattern);
        const bool own = hop.source == static_cast<int>(rank);
        cost.forward = pairs * pair.forward + (own ? 0 : pointwise(3 * windows * out_bytes * tokens));
        cost.backward = pairs * pair.backward + (own ? 0 : pointwise(load.chunk_bytes[source]));
      }
      if (hop.add_gradient) cost.add_gradients = pointwise(3 * load.chunk_bytes[source]);
      work.push_back(cost);
    }
    load.work.push_back(std::move(work));
  }
  return load;
}

StepTime step_time(const StepShape& shape, const Rates& rates, int dp, int cp, int ranks_per_host) {
  PLASMID_CHECK(dp >= 1 && cp >= 1 && ranks_per_host >= 1 && rates.product_flops > 0);
  const RingLoad load = ring_load(shape, rates, cp);
  const double times = static_cast<double>(shape.passes * shape.layers);
  Index most = 0;
  for (const auto& shard : make_shards(1, shape.sequence, cp, Layout::zigzag))
    most = std::max(most, token_count(shard));
  const auto tokens = static_cast<double>(shape.passes * shape.micro_batch * most);

  StepTime time;
  time.attention = times * ring_seconds(shape, load, over_free_links(rates), ranks_per_host);
  if (cp > 1) time.ring = times * ring_seconds(shape, load, rates, ranks_per_host) - time.attention;
  time.products = tokens * token_seconds(shape, rates);
  if (rates.bytes > 0) time.optimizer = kOptimizerBytes * shape.parameters / rates.bytes;
  time.reduction = all_reduce_seconds(4 * shape.parameters, dp * cp, static_cast<double>(kGradientBucketBytes),
                                      {rates.between, rates.inside, ranks_per_host});
  return time;
}

Index hidden_from_tokens(const StepShape& shape, const Rates& rates, const Link& link) {
  // Of two shards of a zigzag cut, half of the pairs see each other under a causal mask.
  const double seen = shape.pattern.right == 0 ? 0.5 : 1;
  const auto hidden = [&](Index tokens) {
    const auto count = static_cast<double>(tokens), windows = static_cast<double>(shape.micro_batch);
    const double pairs = seen * windows * static_cast<double>(shape.heads) * count * count;
    const double bytes = windows * shape.chunk_token_bytes() * count;
    const PairTime pair = rates.pair_at(count);
    return link.seconds(bytes) <= pairs * pair.forward && link.seconds(2 * bytes) <= pairs * pair.backward;
  };
  Index low = 0, high = Index{1} << 40;
  if (!hidden(high)) return 0;
  while (high - low > 1) {
    const Index middle = low + (high - low) / 2;
    (hidden(middle) ? high : low) = middle;
  }
  return high;
}

}  // namespace plasmid
