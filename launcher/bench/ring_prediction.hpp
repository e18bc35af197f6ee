#pragma once
#include "launcher/bench/attention_oracle.hpp"
#include "launcher/bench/replay.hpp"
#include "launcher/planner/network.hpp"

namespace plasmid::bench {

// Seconds that the cost model gives attention over a zigzag ring of `ranks`, all links alike; `bytes_per_second` of the
// work around the kernel, merging and adding.
ReplayTimes predict_ring(const AttentionShape&, int ranks, const ReplayTimes& pair, const Link&,
                         double bytes_per_second);

// The link of a ring from two of its shifts, of few bytes and of many.
Link link_of(double few_bytes, double few_seconds, double many_bytes, double many_seconds);

}  // namespace plasmid::bench
