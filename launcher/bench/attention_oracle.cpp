#include "launcher/bench/attention_oracle.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "runtime/base/philox.hpp"

namespace plasmid::bench {
namespace {

using Sum = AttentionOracle::Sum;

Sum dot(const std::vector<float>& a, const std::vector<float>& b) {
  Sum sum;
  for (std::size_t c = 0; c < a.size(); ++c) sum.add(static_cast<double>(a[c]) * b[c]);
  return sum;
}

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

}  // namespace

float AttentionShape::scale() const { return 1 / std::sqrt(static_cast<float>(d)); }

double AttentionShape::pairs() const {
  double sum = 0;
  for (Index i = 0; i < tokens; ++i)
    sum += static_cast<double>(std::min(tokens, i + pattern.right + 1) - std::max<Index>(0, i - pattern.left));
  return sum;
}

double AttentionShape::flops(const std::string& pass) const {
  const double per_pair = pass == "forward" ? 4 : pass == "backward" ? 10 : 14;
  return per_pair * static_cast<double>(heads * d) * pairs();
}

std::vector<float> AttentionOracle::input(Tensor tensor, Index token, Index head) const {
  std::vector<float> row(at(shape_.d));
  for (Index c = 0; c < shape_.d; c += 4) {
    const auto block = Philox::draw(static_cast<std::uint64_t>(tensor), static_cast<std::uint64_t>(token),
                                    static_cast<std::uint64_t>(head) << 32 | static_cast<std::uint64_t>(c));
    for (Index i = c; i < std::min(c + 4, shape_.d); ++i)
      row[at(i)] = static_cast<float>(std::numbers::sqrt3 * (2 * uniform_open(block[at(i - c)]) - 1));
  }
  return row;
}

double AttentionOracle::tolerance(const Sum& sum, Index terms) const {
  const double rounding = std::sqrt(static_cast<double>(terms)) + 4 * std::sqrt(static_cast<double>(shape_.d)) + 16;
  return 0x1p-24 * rounding * sum.size;
}

AttentionOracle::Query AttentionOracle::query(Index token, Index head) const {
  const Index kv_head = head / (shape_.heads / shape_.kv_heads);
  const Index begin = std::max<Index>(0, token - shape_.pattern.left),
              end = std::min(shape_.tokens, token + shape_.pattern.right + 1);
  const std::vector<float> q = input(kQ, token, head), dout = input(kDout, token, head);
  std::vector<double> scores;
  std::vector<Sum> dp;
  double total = 0, top = -HUGE_VAL;
  for (Index j = begin; j < end; ++j) {
    scores.push_back(shape_.scale() * dot(q, input(kK, j, kv_head)).value);
    top = std::max(top, scores.back());
  }
  for (const double score : scores) total += std::exp(score - top);

  Query result{top + std::log(total), std::vector<Sum>(at(shape_.d)), std::vector<Sum>(at(shape_.d)), end - begin};
  double delta = 0;
  for (Index j = begin; j < end; ++j) {
    const std::vector<float> v = input(kV, j, kv_head);
    const double p = std::exp(scores[at(j - begin)] - result.lse);
    for (std::size_t c = 0; c < v.size(); ++c) result.out[c].add(p * v[c]);
    dp.push_back(dot(dout, v));
    delta += p * dp.back().value;
  }
  for (Index j = begin; j < end; ++j) {
    const std::vector<float> k = input(kK, j, kv_head);
    const double p = shape_.scale() * std::exp(scores[at(j - begin)] - result.lse);
    const Sum& product = dp[at(j - begin)];
    for (std::size_t c = 0; c < k.size(); ++c) {
      result.dq[c].value += p * (product.value - delta) * k[c];
      result.dq[c].size += p * (product.size + std::abs(delta)) * std::abs(k[c]);
    }
  }
  return result;
}

AttentionOracle::Key AttentionOracle::key(Index token, Index kv_head, const QuerySums& all) const {
  const Index group = shape_.heads / shape_.kv_heads;
  const Index begin = std::max<Index>(0, token - shape_.pattern.right),
              end = std::min(shape_.tokens, token + shape_.pattern.left + 1);
  const std::vector<float> k = input(kK, token, kv_head), v = input(kV, token, kv_head);
  Key result{std::vector<Sum>(k.size()), std::vector<Sum>(k.size()), group * (end - begin)};
  for (Index head = kv_head * group; head < (kv_head + 1) * group; ++head)
    for (Index i = begin; i < end; ++i) {
      const std::vector<float> q = input(kQ, i, head), dout = input(kDout, i, head);
      const std::size_t query = at(i * shape_.heads + head);
      const double p = std::exp(shape_.scale() * dot(q, k).value - all.lse[query]);
      const Sum dp = dot(dout, v);
      for (std::size_t c = 0; c < k.size(); ++c) {
        result.dv[c].add(p * dout[c]);
        result.dk[c].value += shape_.scale() * p * (dp.value - all.delta[query]) * q[c];
        result.dk[c].size += shape_.scale() * p * (dp.size + std::abs(all.delta[query])) * std::abs(q[c]);
      }
    }
  return result;
}

}  // namespace plasmid::bench
