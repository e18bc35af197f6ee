#pragma once
#include "launcher/run/checkpoints.hpp"
#include "parallel/comm/communicator.hpp"

namespace plasmid {

// Collective. Ranks that read other files under the same names would train apart, or wait for one another for ever:
// throws Refusal{data} on all ranks where a value of any field differs between them, naming the first such field. Every
// rank has the same fields in the same order.
void require_same_on_all_ranks(Communicator&, const FieldValues&);

}  // namespace plasmid
