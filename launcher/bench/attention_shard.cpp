#include "launcher/bench/attention_shard.hpp"

#include <cmath>
#include <set>
#include <sstream>

#include "runtime/base/error.hpp"
#include "runtime/device/parallel_for.hpp"

namespace plasmid::bench {
namespace {

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

float* row_of(View tensor, Index token, Index head) {
  return tensor.ptr<float>() + token * tensor.step(0) + head * tensor.step(1);
}

void require(bool right, const char* what, Index token, Index head, Index channel, double found, double wanted,
             double tolerance) {
  if (right) return;
  std::ostringstream text;
  text << "a wrong result: " << what << " of token " << token << ", head " << head;
  if (channel >= 0) text << ", channel " << channel;
  text << " is " << found << ", in f64 it is " << wanted << ": further apart than " << tolerance;
  throw Error(ErrorCode::software, text.str());
}

}  // namespace

AttentionShard::AttentionShard(const AttentionOracle& oracle, Shards shards, Index shard)
    : oracle_(oracle),
      shards_(std::move(shards)),
      places_(shards_[at(shard)]),
      tokens_(places_.size()),
      document_begin_{0, oracle.shape().tokens} {
  map_.shards = shards_;
  map_.shard = shard;
  map_.document_begin = document_begin_;
  const auto [n, heads, kv_heads, d, pattern] = oracle.shape();
  qkv_.resize(at(tokens_ * (heads + 2 * kv_heads) * d));
  for (std::vector<float>* tensor : {&dout_, &out_, &dq_}) tensor->resize(at(tokens_ * heads * d));
  for (std::vector<float>* tensor : {&dk_, &dv_}) tensor->resize(at(tokens_ * kv_heads * d));
  lse_.resize(at(tokens_ * heads)), delta_.resize(lse_.size());
  const std::pair<View, AttentionOracle::Tensor> inputs[] = {{q(), AttentionOracle::kQ},
                                                             {k(), AttentionOracle::kK},
                                                             {v(), AttentionOracle::kV},
                                                             {dout(), AttentionOracle::kDout}};
  for (const auto& [tensor, which] : inputs)
    parallel_for(tokens_, 16, [&, tensor = tensor, which = which](Index begin, Index end) {
      for (Index i = begin; i < end; ++i)
        for (Index h = 0; h < tensor.dim(1); ++h)
          std::ranges::copy(oracle_.input(which, places_.global(i), h), row_of(tensor, i, h));
    });
}

View AttentionShard::columns(Index first, Index heads) {
  const Index d = shape().d;
  const View all = view_of(std::span(qkv_)).reshape({tokens_, (shape().heads + 2 * shape().kv_heads) * d});
  return all.slice(1, first * d, (first + heads) * d).reshape({tokens_, heads, d});
}

QuerySums AttentionShard::sums() {
  QuerySums own;
  for (Index i = 0; i < tokens_; ++i)
    for (Index h = 0; h < shape().heads; ++h) {
      double delta = 0;
      for (Index c = 0; c < shape().d; ++c)
        delta += static_cast<double>(row_of(dout(), i, h)[c]) * row_of(out(), i, h)[c];
      own.lse.push_back(lse_[at(i * shape().heads + h)]);
      own.delta.push_back(delta);
    }
  return own;
}

void AttentionShard::check(const QuerySums& all) {
  if (tokens_ == 0) return;
  for (const Index local : std::set<Index>{0, std::min<Index>(1, tokens_ - 1), tokens_ / 3, tokens_ / 2, tokens_ - 1}) {
    for (const Index head : std::set<Index>{0, shape().heads - 1}) check_query(local, head);
    for (const Index head : std::set<Index>{0, shape().kv_heads - 1}) check_key(local, head, all);
  }
}

void AttentionShard::check_query(Index local, Index head) {
  const Index token = places_.global(local);
  const AttentionOracle::Query wanted = oracle_.query(token, head);
  const float lse = lse_[at(local * shape().heads + head)];
  const double tolerance = oracle_.tolerance({0, 1 + std::abs(wanted.lse)}, wanted.keys);
  require(std::abs(lse - wanted.lse) <= tolerance, "lse", token, head, -1, lse, wanted.lse, tolerance);
  const auto compare = [&](const char* what, View found, const std::vector<AttentionOracle::Sum>& sums) {
    for (Index c = 0; c < shape().d; ++c) {
      const double value = row_of(found, local, head)[c], bound = oracle_.tolerance(sums[at(c)], wanted.keys);
      require(std::abs(value - sums[at(c)].value) <= bound, what, token, head, c, value, sums[at(c)].value, bound);
    }
  };
  compare("out", out(), wanted.out);
  compare("dq", dq(), wanted.dq);
}

void AttentionShard::check_key(Index local, Index kv_head, const QuerySums& all) {
  const Index token = places_.global(local);
  const AttentionOracle::Key wanted = oracle_.key(token, kv_head, all);
  const auto compare = [&](const char* what, View found, const std::vector<AttentionOracle::Sum>& sums) {
    for (Index c = 0; c < shape().d; ++c) {
      const double value = row_of(found, local, kv_head)[c], bound = oracle_.tolerance(sums[at(c)], wanted.queries);
      require(std::abs(value - sums[at(c)].value) <= bound, what, token, kv_head, c, value, sums[at(c)].value, bound);
    }
  };
  compare("dk", dk(), wanted.dk);
  compare("dv", dv(), wanted.dv);
}

}  // namespace plasmid::bench
