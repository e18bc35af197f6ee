#pragma once
#include "runtime/base/index.hpp"

namespace plasmid {

// A path between two ranks, as a ring shift sees it: both directions at work at once.
struct Link {
  double latency = 0;           // seconds of an empty transfer, the two sides' agreement included
  double bytes_per_second = 0;  // 0: no such link
  double core_share = 0;  // of a transfer's time, what either side's core spends on it and so takes from computing
  double seconds(double bytes) const { return latency + bytes / bytes_per_second; }
};

// Ranks fill hosts one after another.
struct Network {
  Link between, inside;  // hosts; a host
  int ranks_per_host = 1;
  const Link& link(int from, int to) const { return from / ranks_per_host == to / ranks_per_host ? inside : between; }
  // The slowest link that ranks 0 to `ranks` - 1 need, as neighbours in a circle.
  const Link& slowest(int ranks) const { return ranks > ranks_per_host ? between : inside; }
};

// Seconds to sum `bytes` over `ranks`, cut into buckets of which two are in flight. From four ranks on a ring of
// 2 (ranks - 1) steps with bytes / ranks each (Patarasuk, Yuan 2009); below, up and down a binomial tree, as Open MPI
// does.
double all_reduce_seconds(double bytes, int ranks, double bucket_bytes, const Network&);

}  // namespace plasmid
