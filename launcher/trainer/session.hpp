#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "launcher/bootstrap/world.hpp"

namespace plasmid {

struct TrainOptions {
  std::filesystem::path job;
  std::vector<std::string> overrides;  // "a.b=c", applied in order
};

// `plasmid train` on one rank, from the job file to the last line. Returns the exit status, which is equal on all ranks
// unless one fails alone: that one ends the processes of all. Everything that can be refused is refused before the
// first step and before the run directory exists, in one line on standard error.
int train(World&, const TrainOptions&);

}  // namespace plasmid
