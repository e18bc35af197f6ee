#include "launcher/bench/benchmark.hpp"
#include "launcher/bench/compare.hpp"
#include "launcher/main/alone.hpp"
#include "launcher/main/commands.hpp"

namespace plasmid {
namespace {

void add_compare(CLI::App& bench, int& status) {
  CLI::App* command =
      bench.add_subcommand("compare",
                           "Sets two results side by side, row by row: the ratio of their medians, and whether it lies "
                           "outside the spread.\n"
                           "Example: plasmid bench compare before.json after.json --fail-above 1.1");
  auto options = std::make_shared<bench::CompareOptions>();
  command->add_option("BEFORE", options->before, "what --json wrote")->required();
  command->add_option("AFTER", options->after, "of the same shapes")->required();
  command
      ->add_option("--fail-above", options->fail_above,
                   "exit with 1 where a row's ratio is above this and outside the spread")
      ->check(CLI::PositiveNumber);
  command->callback([=, &status] { status = alone([&] { return bench::compare(*options); }); });
}

}  // namespace

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
  add_compare(*command, status);
}

}  // namespace plasmid
