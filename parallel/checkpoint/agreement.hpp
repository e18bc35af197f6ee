#pragma once
#include <functional>
#include <string>

#include "parallel/comm/communicator.hpp"

namespace plasmid {

// Collective. Runs `work`, which talks to no other rank, on each. Returns, equal on all ranks, what the lowest rank
// that threw had to say (with its number, unless it is rank 0); empty when none did.
std::string run_agreed(Communicator& ranks, const std::function<void()>& work);

}  // namespace plasmid
