#pragma once
#include <span>
#include <vector>

#include "attention/kernel/kernel.hpp"
#include "attention/mask/mask.hpp"
#include "parallel/comm/communicator.hpp"
#include "runtime/nn/module.hpp"

namespace plasmid {

// One step of the ring on one rank: which holder's keys are worked on, and which of the transfers take place.
struct Hop {
  int source = 0;          // holder whose keys and values are here in this hop
  bool work = false;       // the mask lets some query here see some key of it
  bool receive = false;    // the chunk of the NEXT hop comes from rank - 1 during this one
  bool send = false;       // this hop's chunk goes on to rank + 1
  int gradient_from = -1;  // whose partial dK, dV of `source` to add before sending on
  int gradient_to = -1;    // next on the way (rank + 1), or `source` itself when nobody further works on it
};

// The schedule of rank `rank`: a pure function, equal knowledge on all ranks, so peers never disagree on a hop and
// hang. A chunk travels only as far as the last rank that needs it (windows and documents prune the ring), its
// gradients with it and then home.
std::vector<Hop> ring_schedule(const TokenMap&, const Pattern&, int rank, int size);

}  // namespace plasmid
