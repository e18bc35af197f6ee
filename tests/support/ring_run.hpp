#pragma once
#include <string>

#include "attention/ring/ring.hpp"
#include "tests/support/attention_case.hpp"
#include "tests/support/token_line.hpp"

namespace plasmid::test {

// Forward and backward of `problem`, a whole line's tensors, over the ring: this rank takes its tokens' rows, laid out
// inside a fused projection, and the parts are put together again on every rank. `line` is split over ring.size().
// The scratch arena grants what scratch_bytes() promises and no more.
struct RingRun {
  AttentionResult<float> result;
  Index scratch_peak = 0;
};
RingRun run_ring(Communicator& ring, AttentionKernel&, const TokenLine& line, const AttentionCase& problem);

// Random tensors under the line's own mask.
AttentionCase problem_of(const TokenLine&, Index heads, Index kv_heads, Index d, unsigned seed);

}  // namespace plasmid::test
