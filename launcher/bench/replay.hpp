#pragma once
#include <memory>
#include <string>

#include "attention/kernel/kernel.hpp"

namespace plasmid::bench {

struct ReplayTimes {  // seconds of one (query, key) pair of one query head
  double forward = 0, backward = 0;
};

// "FORWARD,BACKWARD" in seconds. Throws Error{usage}.
ReplayTimes parse_replay(const std::string&);

// A kernel that takes as long as one that computes, and computes nothing: it waits for the recorded time of its pairs,
// asleep but for polls every tenth of a millisecond, so that many ranks share few cores as if each had its own. Results
// stay as they were. Scratch is what `inner` asks for.
std::unique_ptr<AttentionKernel> make_replay_kernel(const ReplayTimes&, std::unique_ptr<AttentionKernel> inner);

}  // namespace plasmid::bench
