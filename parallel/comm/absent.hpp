#pragma once
#include <memory>

#include "parallel/comm/communicator.hpp"

namespace plasmid {

// Rank 0 of a group whose other ranks are not there: it tells its size, so that a layout can be planned by one process.
// Whatever would talk to the others is a CHECK failure.
std::unique_ptr<Communicator> make_absent_communicator(int size);

}  // namespace plasmid
