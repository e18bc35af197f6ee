// The definition. The host kernels are optimisations of this file and are tested against it.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "attention/kernel/operands.hpp"
#include "attention/lsh/lsh.hpp"
#include "runtime/base/check.hpp"

namespace plasmid {
namespace {

using detail::ConstRows;
using detail::MutableRows;

double dot(const float* a, const float* b, Index d) {
  double sum = 0;
  for (Index c = 0; c < d; ++c) sum += static_cast<double>(a[c]) * b[c];
  return sum;
}

struct Candidate {
  Index token;
  double score;
  bool self;  // of constant score
};

// One head of one line.
class Head {
 public:
  Head(const LshInput& input, const LshOptions& options, Index head)
      : qk(detail::rows_of(input.qk)),
        v(detail::rows_of(input.v)),
        input_(input),
        options_(options),
        head_(head),
        tokens(input.qk.dim(0)),
        d(input.qk.dim(2)) {
    chunks_ = cut_chunks(input.document_begin, options.chunk);
    for (Index r = 0; r < options.rounds; ++r) orders_.push_back(sort_round(r));
    for (Index t = 0; t < tokens; ++t) {
      const double norm = std::sqrt(dot(qk.at(t, head), qk.at(t, head), d));
      inverse_norm.push_back(norm > 0 ? 1 / norm : 0);
    }
  }

  // body(query, its candidates) for each query of a round.
  template <class Body>
  void for_each_query(Index round, const Body& body) const {
    for (const LshChunk& chunk : chunks_)
      for (const Index query : tokens_of(round, chunk)) {
        std::vector<Candidate> candidates;
        for (const Index key : tokens_of(round, chunk)) admit(query, round, key, round, candidates);
        if (chunk.previous >= 0) {
          const bool back = chunk.wraps && options_.previous == PreviousChunk::sorted;
          const Index before = back ? (round + options_.rounds - 1) % options_.rounds : round;
          for (const Index key : tokens_of(before, chunks_[static_cast<std::size_t>(chunk.previous)]))
            admit(query, round, key, before, candidates);
        }
        body(query, candidates);
      }
  }

  const ConstRows qk, v;

 private:
  const LshInput& input_;
  const LshOptions& options_;
  Index head_;
  std::vector<LshChunk> chunks_;
  std::vector<std::vector<Index>> orders_;  // of each round: the token at each place

 public:
  Index tokens, d;
  std::vector<double> inverse_norm;

 private:
  Index bucket(Index round, Index token) const {
    return input_.buckets.ptr<std::uint16_t>()[(head_ * options_.rounds + round) * tokens + token];
  }
  std::vector<Index> sort_round(Index round) const {
    std::vector<Index> order(static_cast<std::size_t>(tokens));
    std::iota(order.begin(), order.end(), 0);
    for (std::size_t i = 0; i + 1 < input_.document_begin.size(); ++i)
      std::stable_sort(order.begin() + input_.document_begin[i], order.begin() + input_.document_begin[i + 1],
                       [&](Index a, Index b) { return bucket(round, a) < bucket(round, b); });
    return order;
  }
  std::span<const Index> tokens_of(Index round, const LshChunk& chunk) const {
    return std::span(orders_[static_cast<std::size_t>(round)])
        .subspan(static_cast<std::size_t>(chunk.places.begin), static_cast<std::size_t>(chunk.places.size()));
  }
  void admit(Index query, Index round, Index key, Index key_round, std::vector<Candidate>& candidates) const {
    if (options_.causal && key > query) return;
    if (options_.same_bucket && (key_round != round || bucket(round, key) != bucket(round, query))) return;
    const double product = dot(qk.at(query, head_), qk.at(key, head_), d) * inverse_norm[static_cast<std::size_t>(key)];
    candidates.push_back({key, query == key ? kLshSelfScore : input_.scale * product, query == key});
  }
};

struct Softmax {
  std::vector<double> weights;  // of the candidates
  std::vector<double> out;      // [d]
  double lse;
};

Softmax attend(const Head& head, Index h, const std::vector<Candidate>& candidates) {
  double peak = -std::numeric_limits<double>::infinity(), sum = 0;
  for (const Candidate& c : candidates) peak = std::max(peak, c.score);
  for (const Candidate& c : candidates) sum += std::exp(c.score - peak);
  Softmax result{{}, std::vector<double>(static_cast<std::size_t>(head.d)), peak + std::log(sum)};
  for (const Candidate& c : candidates) {
    const double weight = std::exp(c.score - peak) / sum;
    result.weights.push_back(weight);
    for (Index i = 0; i < head.d; ++i) result.out[static_cast<std::size_t>(i)] += weight * head.v.at(c.token, h)[i];
  }
  return result;
}

// Results of all rounds of one head, and their merge.
struct Rounds {
  std::vector<std::vector<Softmax>> of;  // [rounds][tokens]
  std::vector<double> lse, out;          // [tokens], [tokens, d]

  Rounds(const Head& head, Index h, Index rounds) {
    const auto n = static_cast<std::size_t>(head.tokens), d = static_cast<std::size_t>(head.d);
    for (Index r = 0; r < rounds; ++r) {
      std::vector<Softmax>& round = of.emplace_back(n);
      head.for_each_query(r, [&](Index query, const std::vector<Candidate>& candidates) {
        round[static_cast<std::size_t>(query)] = attend(head, h, candidates);
      });
    }
    lse.resize(n), out.resize(n * d);
    for (std::size_t t = 0; t < n; ++t) {
      double peak = -std::numeric_limits<double>::infinity(), sum = 0;
      for (const auto& round : of) peak = std::max(peak, round[t].lse);
      for (const auto& round : of) sum += std::exp(round[t].lse - peak);
      lse[t] = peak + std::log(sum);
      for (const auto& round : of)
        for (std::size_t c = 0; c < d; ++c) out[t * d + c] += std::exp(round[t].lse - lse[t]) * round[t].out[c];
    }
  }
};

}  // namespace

void lsh_reference_forward(const LshInput& input, const LshOptions& options, View out_view, View lse, View round_lse) {
  const Index heads = input.qk.dim(1), d = input.qk.dim(2);
  const MutableRows out = detail::rows_of(out_view);
  for (Index h = 0; h < heads; ++h) {
    const Head head(input, options, h);
    const Rounds rounds(head, h, options.rounds);
    for (Index t = 0; t < head.tokens; ++t) {
      lse.ptr<double>()[t * heads + h] = rounds.lse[static_cast<std::size_t>(t)];
      for (Index c = 0; c < d; ++c)
        out.at(t, h)[c] = static_cast<float>(rounds.out[static_cast<std::size_t>(t * d + c)]);
      for (Index r = 0; round_lse && r < options.rounds; ++r)
        round_lse.ptr<double>()[(h * options.rounds + r) * head.tokens + t] =
            rounds.of[static_cast<std::size_t>(r)][static_cast<std::size_t>(t)].lse;
    }
  }
}

void lsh_reference_backward(const LshInput& input, const LshOptions& options, ConstView dout_view, View dqk_view,
                            View dv_view) {
  const Index heads = input.qk.dim(1), d = input.qk.dim(2);
  const auto at = [](Index i) { return static_cast<std::size_t>(i); };
  const ConstRows dout = detail::rows_of(dout_view);
  for (Index h = 0; h < heads; ++h) {
    const Head head(input, options, h);
    const Rounds rounds(head, h, options.rounds);
    std::vector<double> dq(at(head.tokens * d)), dkey(dq), dv(dq);
    for (Index r = 0; r < options.rounds; ++r)
      head.for_each_query(r, [&](Index i, const std::vector<Candidate>& candidates) {
        const Softmax& round = rounds.of[at(r)][at(i)];
        const float* dout_i = dout.at(i, h);
        // out = sum over rounds of w o, w = exp(lse of the round - lse of all).
        const double w = std::exp(round.lse - rounds.lse[at(i)]);
        double dout_round = 0, dout_all = 0;
        for (Index c = 0; c < d; ++c)
          dout_round += dout_i[c] * round.out[at(c)], dout_all += dout_i[c] * rounds.out[at(i * d + c)];
        const double dlse = w * (dout_round - dout_all);
        for (std::size_t n = 0; n < candidates.size(); ++n) {
          const Index j = candidates[n].token;
          const double p = round.weights[n];
          for (Index c = 0; c < d; ++c) dv[at(j * d + c)] += w * p * dout_i[c];
          if (candidates[n].self) continue;
          const double dp = w * dot(dout_i, head.v.at(j, h), d), dround = w * dout_round;
          const double ds = input.scale * p * (dp - dround + dlse);
          for (Index c = 0; c < d; ++c) {
            dq[at(i * d + c)] += ds * head.inverse_norm[at(j)] * head.qk.at(j, h)[c];
            dkey[at(j * d + c)] += ds * head.qk.at(i, h)[c];
          }
        }
      });
    for (Index t = 0; t < head.tokens; ++t) {
      // key = x / |x|: dx = (dkey - key (key . dkey)) / |x|.
      const float* x = head.qk.at(t, h);
      const double inverse = head.inverse_norm[at(t)];
      double along = 0;
      for (Index c = 0; c < d; ++c) along += inverse * x[c] * dkey[at(t * d + c)];
      for (Index c = 0; c < d; ++c) {
        const double key = inverse * x[c], through_key = inverse * (dkey[at(t * d + c)] - key * along);
        detail::rows_of(dqk_view).at(t, h)[c] = static_cast<float>(dq[at(t * d + c)] + through_key);
        detail::rows_of(dv_view).at(t, h)[c] = static_cast<float>(dv[at(t * d + c)]);
      }
    }
  }
}

}  // namespace plasmid
