#pragma once
#include <string>

#include "tests/support/attention_case.hpp"
#include "tests/support/token_line.hpp"

namespace plasmid::test {

// One case of the reference numbers' attention_patterns, its batch laid end to end as the samples of a line.
struct ReferenceAttention {
  TokenLine line;
  AttentionCase problem;              // with the mask that the line's own rules give
  AttentionResult<double> result;     // as PyTorch computed it in f64
  std::vector<std::uint8_t> allowed;  // [samples, length, length], the mask as the file spells it out
};

// Dense cases only: full, causal, causal_odd, window_causal, window_both, grouped_causal, documents, empty_rows,
// large_scores.
ReferenceAttention read_reference_attention(const std::string& name);

}  // namespace plasmid::test
