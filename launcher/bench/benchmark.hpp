#pragma once
#include <CLI/CLI.hpp>
#include <memory>
#include <span>
#include <string>

#include "launcher/bench/session.hpp"

namespace plasmid::bench {

// One sub-command of `plasmid bench`: a file that defines it, and its name in the list of benchmark.cpp.
class Benchmark {
 public:
  virtual ~Benchmark() = default;
  virtual void add_options(CLI::App&) = 0;  // its own, beside those of Options
  // Collective. Checks its results against an independent computation before it times them, then adds rows. Refuses by
  // throwing Refusal, on all ranks alike.
  virtual void run(Session&) = 0;
};

struct BenchmarkDefinition {
  const char* name;
  const char* help;  // what it measures, with an example
  bool timed;        // takes --repeats and --on-request
  std::unique_ptr<Benchmark> (*make)();
};

std::span<const BenchmarkDefinition* const> benchmarks();

// `plasmid bench NAME` on one rank; the exit status, which is equal on all ranks.
int run_benchmark(World&, const BenchmarkDefinition&, Benchmark&, const Options&);

// The options that all benchmarks have.
void add_common_options(CLI::App&, const BenchmarkDefinition&, Options&);

}  // namespace plasmid::bench
