#pragma once
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "launcher/job/job.hpp"

namespace plasmid::bench {

// A training step from the command line: the shape of a model on tokens that are made up, or a job file with its data.
struct StepOptions {
  std::string family = "GPT2", recompute = "NONE";
  Index layers = 6, width = 384, heads = 6, kv_heads = 0, mlp_width = 0, vocabulary = 256;
  std::vector<Index> tokens = {4096};  // of a window
  Index dp = 1, window = 0;            // the other ranks share each window
  std::string job;
  std::vector<std::string> overrides;

  void add_to(CLI::App&);
  void add_shape_to(CLI::App&);  // all but the job file
  bool from_file() const { return !job.empty(); }
  // Resolved for these ranks. Throws Error as `resolve` does; what it says of a field that an option gave names that.
  Job resolve_for(Index tokens, int ranks) const;
};

// What two results must agree in to be compared.
nlohmann::ordered_json step_shape(const Job&, int threads);

}  // namespace plasmid::bench
