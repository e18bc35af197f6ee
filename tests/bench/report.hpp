#pragma once
#include <string>

#include "launcher/bench/ceilings.hpp"

namespace plasmid::bench {

// One line: name, median of seven thread CPU times, rate, and the rate as a fraction of the FMA loop, which is measured
// before each of them. `work` must run on the calling thread alone.
void report_flops(const std::string& name, double flops, const Work& work);
// The same in bytes, against the triad.
void report_bytes(const std::string& name, double bytes, const Work& work);

}  // namespace plasmid::bench
