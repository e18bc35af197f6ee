#include "tests/support/attention_case.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "parallel/cp/partition.hpp"
#include "runtime/base/bfloat16.hpp"

namespace plasmid::test {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kGuard = 1.25e30f;
constexpr Index kGap = 3;  // guard words after each row

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

// A [rows, heads, d] tensor inside a wider one, its rows kGap words apart.
struct Guarded {
  Index rows, width;
  std::vector<float> words;
  std::vector<BFloat16> narrow = {};  // what the view shows instead, where the tensor is stored as bf16
  Guarded(Index row_count, Index row_width, const std::vector<float>& fill, DType dtype = DType::f32)
      : rows(row_count), width(row_width), words(at(kGap + rows * (width + kGap)), kGuard) {
    for (Index r = 0; r < rows; ++r)
      for (Index c = 0; c < width; ++c) words[at(kGap + r * (width + kGap) + c)] = fill[at(r * width + c)];
    if (dtype == DType::bf16)
      for (const float word : words) narrow.push_back(rounded(word));
  }
  View view(const Shape& shape) {
    View view(reinterpret_cast<std::byte*>(words.data() + kGap), {shape});
    if (!narrow.empty()) view = View(reinterpret_cast<std::byte*>(narrow.data() + kGap), {shape, DType::bf16});
    view.stride[0] = width + kGap;
    return view;
  }
  std::vector<float> content(const char* name) const {
    std::vector<float> inside;
    for (std::size_t i = 0; i < words.size(); ++i) {
      const bool guard = static_cast<Index>(i) < kGap || (static_cast<Index>(i) - kGap) % (width + kGap) >= width;
      if (!guard) {
        inside.push_back(words[i]);
      } else if (words[i] != kGuard) {
        ADD_FAILURE() << name << ": wrote over the guard word at " << i;
      }
    }
    return inside;
  }
};

template <class Real>
double norm_of_difference(const std::vector<Real>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    if (std::isinf(b[i]) && static_cast<double>(a[i]) == b[i]) continue;
    const double difference = static_cast<double>(a[i]) - b[i];
    sum += difference * difference;
  }
  return std::sqrt(sum);
}

double norm(const std::vector<double>& a) {
  double sum = 0;
  for (const double x : a) sum += std::isinf(x) ? 0 : x * x;
  return std::sqrt(sum);
}

}  // namespace

double AttentionCase::kept(Index query, Index head, Index key) const {
  if (!dropout) return 1;
  const auto token = [&](const std::vector<Range>& ranges, Index local) {
    const LocalIndex places(ranges);
    return first_token + places.global(local);
  };
  const auto column = static_cast<std::uint64_t>(token(key_tokens, key));
  return dropout.keeps(AttentionDropout::row(token(query_tokens, query), head), column) ? dropout.scale() : 0;
}

MaskPlan full_mask(Index queries, Index keys) {
  MaskPlan mask;
  mask.queries = queries, mask.keys = keys;
  mask.rows.assign(at(queries), {0, static_cast<std::int32_t>(keys)});
  return mask;
}

MaskPlan causal_mask(Index n) { return window_mask(n, n, 0); }

MaskPlan window_mask(Index n, Index left, Index right) {
  MaskPlan mask = full_mask(n, n);
  for (Index i = 0; i < n; ++i)
    mask.rows[at(i)] = {static_cast<std::int32_t>(std::max<Index>(0, i - left)),
                        static_cast<std::int32_t>(std::min(n, i + right + 1))};
  return mask;
}

AttentionCase random_case(MaskPlan mask, Index heads, Index kv_heads, Index d, unsigned seed, float sharpness) {
  AttentionCase c;
  c.queries = mask.queries, c.keys = mask.keys, c.heads = heads, c.kv_heads = kv_heads, c.d = d;
  c.scale = 1 / std::sqrt(static_cast<float>(d));
  c.mask = std::move(mask);
  std::mt19937 bits(seed);
  std::normal_distribution<float> draw(0, 1);
  const auto fill = [&](std::vector<float>& tensor, Index count, float factor) {
    tensor.resize(at(count));
    for (float& x : tensor) x = factor * draw(bits);
  };
  fill(c.q, c.queries * heads * d, sharpness);
  fill(c.k, c.keys * kv_heads * d, 1);
  fill(c.v, c.keys * kv_heads * d, 1);
  fill(c.dout, c.queries * heads * d, 1);
  return c;
}

AttentionCase rounded_case(AttentionCase c) {
  for (std::vector<float>* tensor : {&c.q, &c.k, &c.v})
    for (float& x : *tensor) x = widened(rounded(x));
  c.storage = DType::bf16;
  return c;
}

template <class Real>
AttentionResult<Real> dense_attention(const AttentionCase& c) {
  AttentionResult<Real> r;
  r.out.assign(c.q.size(), 0), r.dq.assign(c.q.size(), 0);
  r.dk.assign(c.k.size(), 0), r.dv.assign(c.k.size(), 0);
  r.lse.assign(at(c.queries * c.heads), -std::numeric_limits<Real>::infinity());
  std::vector<Real> p(at(c.keys)), dp(at(c.keys));
  for (Index h = 0; h < c.heads; ++h)
    for (Index i = 0; i < c.queries; ++i) {
      const Index row = (i * c.heads + h) * c.d, kv = h / (c.heads / c.kv_heads);
      const auto key = [&](Index j) { return (j * c.kv_heads + kv) * c.d; };
      Real peak = -std::numeric_limits<Real>::infinity(), total = 0;
      for (Index j = 0; j < c.keys; ++j) {
        Real score = 0;
        for (Index x = 0; x < c.d; ++x) score += Real(c.q[at(row + x)]) * Real(c.k[at(key(j) + x)]);
        p[at(j)] = c.mask.allows(i, j) ? Real(c.scale) * score : -std::numeric_limits<Real>::infinity();
        peak = std::max(peak, p[at(j)]);
      }
      if (std::isinf(peak)) continue;
      for (Real& x : p) total += (x = std::exp(x - peak));
      for (Real& x : p) x /= total;
      r.lse[at(i * c.heads + h)] = peak + std::log(total);

      std::vector<Real> kept(at(c.keys));
      for (Index j = 0; j < c.keys; ++j) kept[at(j)] = Real(c.kept(i, h, j));
      Real mean = 0;
      for (Index j = 0; j < c.keys; ++j) {
        dp[at(j)] = 0;
        for (Index x = 0; x < c.d; ++x) {
          r.out[at(row + x)] += p[at(j)] * kept[at(j)] * Real(c.v[at(key(j) + x)]);
          dp[at(j)] += Real(c.dout[at(row + x)]) * Real(c.v[at(key(j) + x)]);
          r.dv[at(key(j) + x)] += p[at(j)] * kept[at(j)] * Real(c.dout[at(row + x)]);
        }
        dp[at(j)] *= kept[at(j)];
        mean += p[at(j)] * dp[at(j)];
      }
      for (Index j = 0; j < c.keys; ++j) {
        const Real ds = Real(c.scale) * p[at(j)] * (dp[at(j)] - mean);
        const double terms = static_cast<double>(Real(c.scale) * p[at(j)] * (std::abs(dp[at(j)]) + std::abs(mean)));
        for (Index x = 0; x < c.d; ++x) {
          r.dq_terms += std::pow(terms * static_cast<double>(c.k[at(key(j) + x)]), 2);
          r.dk_terms += std::pow(terms * static_cast<double>(c.q[at(row + x)]), 2);
          r.dq[at(row + x)] += ds * Real(c.k[at(key(j) + x)]);
          r.dk[at(key(j) + x)] += ds * Real(c.q[at(row + x)]);
        }
      }
    }
  r.dq_terms = std::sqrt(r.dq_terms), r.dk_terms = std::sqrt(r.dk_terms);
  return r;
}
template AttentionResult<float> dense_attention<float>(const AttentionCase&);
template AttentionResult<double> dense_attention<double>(const AttentionCase&);

AttentionResult<float> run_kernel(AttentionKernel& kernel, const AttentionCase& c) {
  const Shape per_query{c.queries, c.heads, c.d}, per_key{c.keys, c.kv_heads, c.d}, per_row{c.queries, c.heads};
  const Index query_width = c.heads * c.d, key_width = c.kv_heads * c.d;
  Guarded q(c.queries, query_width, c.q, c.storage), dout(c.queries, query_width, c.dout);
  Guarded k(c.keys, key_width, c.k, c.storage), v(c.keys, key_width, c.v, c.storage);
  const std::vector<float> zeros(std::max(c.q.size(), c.k.size()), 0), junk(zeros.size() + c.mask.rows.size(), 7);
  Guarded out(c.queries, query_width, junk), dq(c.queries, query_width, zeros);
  Guarded dk(c.keys, key_width, zeros), dv(c.keys, key_width, zeros);
  const std::vector<float> rows(at(c.queries * c.heads), 5);
  Guarded lse(c.queries, c.heads, rows), delta(c.queries, c.heads, rows);

  Ledger ledger;
  Arena scratch(Arena::Kind::pool, ledger,
                kernel.scratch_bytes(c.queries, c.keys, c.heads, c.kv_heads, c.d));  // beyond it: Error{memory}
  const AttentionDropout dropout{c.dropout, c.query_tokens, c.key_tokens, c.first_token};
  const Attend call{q.view(per_query),
                    k.view(per_key),
                    v.view(per_key),
                    c.mask,
                    c.scale,
                    {},
                    c.query_tokens.empty() ? nullptr : &dropout};
  attention_start(out.view(per_query), lse.view(per_row));
  kernel.forward(call, out.view(per_query), lse.view(per_row), scratch);
  attention_delta(out.view(per_query), dout.view(per_query), delta.view(per_row));
  kernel.backward(call, lse.view(per_row), delta.view(per_row), dout.view(per_query), dq.view(per_query),
                  dk.view(per_key), dv.view(per_key), scratch);
  EXPECT_EQ(scratch.live_bytes(), 0);
  return {out.content("out"), lse.content("lse"), dq.content("dq"), dk.content("dk"), dv.content("dv"), 0, 0};
}

void expect_close(const AttentionResult<float>& got, const AttentionResult<double>& exact,
                  const AttentionResult<float>& plain, double factor, const std::string& what) {
  const auto compare = [&](const char* name, const auto& a, const auto& b, const auto& unit, double terms = 0) {
    ASSERT_EQ(a.size(), b.size()) << what << " " << name;
    const double floor = std::numeric_limits<float>::epsilon() * std::max(norm(b), terms);
    const double error = norm_of_difference(a, b), allowed = std::max(factor * norm_of_difference(unit, b), floor);
    EXPECT_LE(error, allowed) << what << " " << name << ", norm " << norm(b);
    EXPECT_FALSE(std::isnan(error)) << what << " " << name;
  };
  for (std::size_t i = 0; i < exact.lse.size(); ++i)
    EXPECT_EQ(std::isinf(exact.lse[i]), got.lse[i] == -kInfinity) << what << " lse " << i;
  compare("out", got.out, exact.out, plain.out);
  compare("lse", got.lse, exact.lse, plain.lse);
  compare("dq", got.dq, exact.dq, plain.dq, exact.dq_terms);
  compare("dk", got.dk, exact.dk, plain.dk, exact.dk_terms);
  compare("dv", got.dv, exact.dv, plain.dv);
}

}  // namespace plasmid::test
