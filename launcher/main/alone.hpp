#pragma once
#include <cstdio>

#include "launcher/bootstrap/together.hpp"
#include "launcher/bootstrap/world.hpp"

namespace plasmid {

// On one rank, should a launcher have started several; one line and a status for what goes wrong.
template <class Body>
int alone(Body&& body) {
  if (launched_rank() != 0) return 0;
  try {
    return body();
  } catch (const std::exception& failure) {
    const Refusal refusal = describe(failure);
    std::fprintf(stderr, "plasmid: %s\n", refusal.line.c_str());
    return refusal.exit_status;
  }
}

}  // namespace plasmid
