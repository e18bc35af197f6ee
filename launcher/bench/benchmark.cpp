#include "launcher/bench/benchmark.hpp"

#include <cstdio>

#include "launcher/bootstrap/together.hpp"

namespace plasmid::bench {

extern const BenchmarkDefinition attention_benchmark, step_benchmark, ring_benchmark, memory_benchmark,
    scaling_benchmark;

std::span<const BenchmarkDefinition* const> benchmarks() {
  static constexpr const BenchmarkDefinition* all[] = {
      &attention_benchmark, &step_benchmark, &ring_benchmark, &memory_benchmark, &scaling_benchmark,
  };
  return all;
}

void add_common_options(CLI::App& app, const BenchmarkDefinition& definition, Options& options) {
  app.add_option("--threads", options.threads,
                 "threads of a rank; else OMP_NUM_THREADS, or the processors divided among the ranks that share them")
      ->check(CLI::Range(1, 4096));
  app.add_option("--simd", options.simd, "instructions to keep to; else the widest that all ranks have")
      ->check(CLI::IsMember({"SSE4", "AVX2", "AVX-512"}));
  app.add_option("--json", options.json, "write the result here too, with the environment and every repetition");
  if (!definition.timed) return;
  app.add_option("--repeats", options.repeats, "timed repetitions, from 5 (7)")->check(CLI::Range(5, 1000000));
  app.add_flag("--on-request", options.on_request,
               "check and warm up, then run once for each line read from standard input and print its seconds as a "
               "line of JSON: another program can measure in turn with it")
      ->excludes("--json");
}

int run_benchmark(World& world, const BenchmarkDefinition& definition, Benchmark& benchmark, const Options& options) {
  try {
    Session session(world, definition.name, options);
    benchmark.run(session);
    session.finish();
    return 0;
  } catch (const Refusal& refusal) {
    if (!refusal.line.empty()) std::fprintf(stderr, "plasmid: %s\n", refusal.line.c_str());
    return refusal.exit_status;
  } catch (const std::exception& failure) {  // on this rank alone: the others wait for it
    const Refusal refusal = describe(failure);
    std::fprintf(stderr, "plasmid: %s\n", refusal.line.c_str());
    if (world.ranks().size() > 1) world.abort(refusal.exit_status);
    return refusal.exit_status;
  }
}

}  // namespace plasmid::bench
