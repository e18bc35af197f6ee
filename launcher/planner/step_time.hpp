#pragma once
#include "launcher/job/job.hpp"
#include "launcher/planner/rates.hpp"
#include "launcher/planner/ring_time.hpp"
#include "parallel/cp/partition.hpp"

namespace plasmid {

// What the time of a step depends on, of a model and of how its batch is cut.
struct StepShape {
  Index layers = 1, heads = 1, kv_heads = 1, head_dim = 1;
  double product_flops = 0;    // of one token, forward and backward, attention's pairs not among them
  double pointwise_bytes = 0;  // of one token, read and written by what is no product
  bool products_again = false, attention_again = false;  // backward recomputes them
  double parameters = 0;                                 // f32
  Index sequence = 1;                                    // tokens of a window
  Index micro_batch = 1;                                 // windows of a pass
  Index passes = 1;                                      // a step
  Pattern pattern = Pattern::causal();
  double chunk_token_bytes() const { return 8.0 * static_cast<double>(kv_heads * head_dim); }  // keys and values, f32
};

// Of a resolved job, whose model is built for one rank without a window to count its products.
StepShape step_shape(const Job&);

// One layer's attention over a ring of `ranks`.
RingLoad ring_load(const StepShape&, const Rates&, int ranks, Layout layout = Layout::zigzag);

struct StepTime {        // seconds of a step, by the rank that takes longest
  double attention = 0;  // computed, other ranks' included where it waits for them
  double products = 0;   // all that treats each token alone
  double optimizer = 0;
  double ring = 0;       // communication that attention does not hide
  double reduction = 0;  // of gradients: none of it hidden
  double total() const { return attention + products + optimizer + ring + reduction; }
  double exposed() const { return (ring + reduction) / total(); }  // communication, as a fraction of the step
};

// A step of dp x cp ranks, cp of them to a ring of neighbours. Needs links where there is more than one rank.
StepTime step_time(const StepShape&, const Rates&, int dp, int cp, int ranks_per_host);

// The fewest tokens of a rank from which a hop under a causal or no mask computes for as long as its keys and values
// travel over `link`, in backward together with gradients as large: from there on, a ring of any size is hidden. 0:
// none up to 2^40. The computation grows with the square of the tokens, the bytes with the tokens.
Index hidden_from_tokens(const StepShape&, const Rates&, const Link&);

}  // namespace plasmid
