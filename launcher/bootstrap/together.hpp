#pragma once
#include <functional>
#include <string>

#include "parallel/comm/communicator.hpp"

namespace plasmid {

// How every rank leaves a job that was refused: with one exit status, and a line on the rank that has one to print.
struct Refusal {
  int exit_status = 0;
  std::string line;  // empty on the other ranks
};

// Runs `step`, which talks to no other rank, on each. If it threw anywhere, all ranks throw Refusal with the status of
// the lowest rank that failed, which keeps the line. So no rank goes on alone into a collective.
void together(Communicator& ranks, const std::function<void()>& step);

// The exit status and the one line of an exception: an Error's own; 71 for exhausted memory; 70 for anything else.
Refusal describe(const std::exception&);

std::string one_line(std::string text);  // control characters as spaces

}  // namespace plasmid
