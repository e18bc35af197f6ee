#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "launcher/planner/network.hpp"

namespace plasmid {

// What one rank of a machine does in a second, as measured. Zero, or empty: not known.
struct PairTime {  // of the attention kernel, `tokens` queries by as many keys
  double tokens = 0;
  double forward = 0, backward = 0;  // seconds of one (query, key) pair of one query head
};
struct Rates {
  Index head_dim = 0;               // of `attention`
  std::vector<PairTime> attention;  // by ascending tokens
  double product_flops = 0;         // of matrix products in a step, per second
  double bytes = 0;                 // read and written by pointwise work, per second
  Link between, inside;             // hosts; a host

  PairTime pair_at(double tokens) const;  // between two lengths by their logarithms, beyond them the nearest
};

// "1Gbit/s,50us": a rate in bit/s or B/s with k, M, G or T before it, and a latency in ns, us, ms or s. Throws
// Error{usage}.
Link parse_link(const std::string&);
std::string to_text(const Link&);

}  // namespace plasmid
