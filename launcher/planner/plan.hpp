#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "launcher/bootstrap/world.hpp"

namespace plasmid {

struct PlanOptions {
  std::filesystem::path job;
  std::vector<std::string> overrides;           // as of `plasmid train --set`
  std::vector<std::filesystem::path> ceilings;  // JSON of `plasmid bench`; empty: measured here and now
  std::vector<int> ranks;                       // empty: mesh.dp times 1, 2, 4, ... up to 1024
  std::string link, inside_link;                // "1Gbit/s,50us"; empty: as measured
  int ranks_per_host = 1;
  double host_memory = 0;  // bytes; 0: this host's
  bool json = false;
};

// `plasmid plan`: what a step of the job would take on each number of ranks, the ring widened to fill them. Collective
// where there are several ranks, which then measure their link; rank 0 prints. Returns the exit status.
int plan(World&, const PlanOptions&);

}  // namespace plasmid
