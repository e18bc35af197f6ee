#pragma once
#include <functional>
#include <optional>
#include <string>

#include "parallel/comm/communicator.hpp"
#include "runtime/base/error.hpp"

namespace plasmid {

// Collective. Runs `work`, which talks to no other rank, on each. Returns, equal on all ranks, the error of the highest
// code that any threw, of the lowest rank among those, with its number unless it is rank 0. Exhausted memory is
// Error{memory}, what file systems throw Error{io}, anything else Error{software}.
std::optional<Error> error_agreed(Communicator& ranks, const std::function<void()>& work);

// The same for who needs only the words; empty when none threw.
std::string run_agreed(Communicator& ranks, const std::function<void()>& work);

}  // namespace plasmid
