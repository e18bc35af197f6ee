#pragma once
#include <string>

#include "launcher/job/job_file.hpp"
#include "launcher/trainer/job_data.hpp"
#include "runtime/data/markov.hpp"

namespace plasmid {

// What fixed-order Markov models make of the tokens that a network was evaluated on; one rank alone, no others wait.

// Whether that takes a second or two rather than minutes.
bool is_quick(const JobData&);
// Within a quarter of this host's memory; fewer orders where more do not fit. Throws std::bad_alloc.
MarkovScore score_yardstick(const JobData&);
// "Markov order 6: loss 1.3430 nats  1.9376 bits/base  (the best of orders 0 to 12, counted on the training data)"
std::string describe(const MarkovScore&, const v1::Data&);

}  // namespace plasmid
