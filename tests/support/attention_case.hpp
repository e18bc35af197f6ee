// Attention problems and the answers kernels are held to: dense matrices in f64, and the same in f32, whose error is
// the unit in which a kernel's error is measured.
#pragma once
#include <string>
#include <vector>

#include "attention/kernel/kernel.hpp"

namespace plasmid::test {

struct AttentionCase {
  Index queries = 0, keys = 0, heads = 1, kv_heads = 1, d = 0;
  float scale = 1;
  MaskPlan mask;
  std::vector<float> q, dout;  // [queries, heads, d]
  std::vector<float> k, v;     // [keys, kv_heads, d]
  DType storage = DType::f32;  // what runs hand q, k and v over as: f32, or bf16, rounded
  DropoutMask dropout = {};
  std::vector<Range> query_tokens = {}, key_tokens = {};  // with dropout: as AttentionDropout's
  Index first_token = 0;
  double kept(Index query, Index head, Index key) const;  // the factor that dropout gives a weight, by its definition
};

MaskPlan full_mask(Index queries, Index keys);
MaskPlan causal_mask(Index n);
MaskPlan window_mask(Index n, Index left, Index right);

// Standard normal numbers, scale 1/sqrt(d); q is multiplied by `sharpness`.
AttentionCase random_case(MaskPlan, Index heads, Index kv_heads, Index d, unsigned seed, float sharpness = 1);

// With q, k and v rounded to bf16, and stored so: nothing is lost when it runs.
AttentionCase rounded_case(AttentionCase);

template <class Real>
struct AttentionResult {
  std::vector<Real> out, lse, dq, dk, dv;
  double dq_terms = 0, dk_terms = 0;  // root of the sum of squares of P (|dP| + |delta|) k and q: what cancels in dS
};

// Whole score matrices, softmax over rows, the chain rule as matrix products.
template <class Real>
AttentionResult<Real> dense_attention(const AttentionCase&);

// start, forward, delta, backward. Outputs are strided views with guard words between the rows, checked afterwards.
AttentionResult<float> run_kernel(AttentionKernel&, const AttentionCase&);

// Each tensor's error (Euclidean norm) is at most `factor` times that of dense_attention<float>, or one rounding of the
// tensor (of its terms, where they cancel) if that happens to be more. Rows without a key agree exactly.
void expect_close(const AttentionResult<float>& got, const AttentionResult<double>& exact,
                  const AttentionResult<float>& plain, double factor, const std::string& what);

}  // namespace plasmid::test
