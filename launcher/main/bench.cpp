#include "launcher/bench/benchmark.hpp"
#include "launcher/main/commands.hpp"

namespace plasmid {

void add_bench(CLI::App& app, int* argc, char*** argv, int& status) {
  CLI::App* command =
      app.add_subcommand("bench",
                         "Measures what this machine makes of the program, beside what it could: results are checked "
                         "first, ceilings are measured in the same run.\n"
                         "Example: plasmid bench attention --tokens 8192 --threads 1 --json attention.json");
  command->require_subcommand(1);
  for (const bench::BenchmarkDefinition* definition : bench::benchmarks()) {
    CLI::App* one = command->add_subcommand(definition->name, definition->help);
    auto options = std::make_shared<bench::Options>();
    std::shared_ptr<bench::Benchmark> benchmark = definition->make();
    benchmark->add_options(*one);
    bench::add_common_options(*one, *definition, *options);
    one->callback([=, &status] {
      World world(argc, argv);
      status = bench::run_benchmark(world, *definition, *benchmark, *options);
    });
  }
}

}  // namespace plasmid
