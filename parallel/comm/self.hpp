#pragma once
#include <memory>

#include "parallel/comm/communicator.hpp"

namespace plasmid {

// The group of one: collectives copy or do nothing. A transfer to itself is delivered when its two sides meet, in one
// call or in two; wait() on a side that the other never met throws Error{io}.
std::unique_ptr<Communicator> make_self_communicator();

}  // namespace plasmid
