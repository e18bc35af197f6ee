#pragma once
#include <vector>

#include "attention/ring/ring.hpp"
#include "launcher/planner/network.hpp"

namespace plasmid {

struct HopWork {             // seconds of one rank in one hop
  double forward = 0;        // the kernel, and the merge of what it made
  double backward = 0;       // the kernel, and zeroing the sums that it adds to
  double add_gradients = 0;  // adding partial sums that came, once they are there
};

// One layer's attention over a ring, as the ranks do it: ring_schedules, what each hop costs, what it sends.
struct RingLoad {
  std::vector<RecycledVector<Hop>> hops;   // by rank
  std::vector<std::vector<HopWork>> work;  // alike
  std::vector<double> chunk_bytes;         // by source: its keys and values, and just as much of gradients
  double own_first =
      0.5;  // of a rank's own keys' backward work: before the turn, where there is one; the rest after it
};

// Seconds until the last rank has its results, by playing the turn: a hop's transfers start when both sides have
// posted them, a rank sends one message after another, and a rank goes on when it has computed and its transfers are
// there. Backward's gradients leave after a hop's computation and are awaited after the next one's (RingAttention). So
// a hop costs the larger of its computation and its transfers, and a late rank delays those behind it.
double forward_seconds(const RingLoad&, const Network&);
double backward_seconds(const RingLoad&, const Network&);

}  // namespace plasmid
