#include <cstdio>

#include "launcher/bootstrap/together.hpp"
#include "launcher/bootstrap/world.hpp"
#include "launcher/main/alone.hpp"
#include "launcher/main/commands.hpp"
#include "launcher/run/export.hpp"
#include "runtime/base/error.hpp"

namespace plasmid {
namespace {

struct Options {
  std::filesystem::path run, to;
  Index step = 0;
};

int print(const std::vector<CheckpointLine>& lines) {
  int status = 0;  // the least: 65, damage, before what is not known
  for (const CheckpointLine& line : lines) {
    std::printf("%s\n", line.text.c_str());
    if (line.status != 0 && (status == 0 || line.status < status)) status = line.status;
  }
  return status;
}

}  // namespace

void add_checkpoint(CLI::App& app, int& status) {
  CLI::App* command = app.add_subcommand("checkpoint",
                                         "Shows, checks and exports the checkpoints of a run.\n"
                                         "Example: plasmid checkpoint export runs/lambda_phage --to model");
  command->require_subcommand(1);
  auto options = std::make_shared<Options>();
  const auto add = [&](const char* name, const char* help) {
    CLI::App* part = command->add_subcommand(name, help);
    part->add_option("RUN", options->run, "a run directory")->required();
    return part;
  };
  add("list",
      "A line for each checkpoint, oldest first.\n"
      "Example: plasmid checkpoint list runs/lambda_phage")
      ->callback([=, &status] { status = alone([&] { return print(list_checkpoints(options->run)); }); });
  add("verify",
      "Reads every file of every checkpoint and compares its digest.\n"
      "Exit status: 65 when one is damaged, else 74 when one cannot be read, 78 when one is of a newer format.\n"
      "Example: plasmid checkpoint verify runs/lambda_phage")
      ->callback([=, &status] { status = alone([&] { return print(verify_checkpoints(options->run)); }); });
  CLI::App* exports = add("export",
                          "Writes weights and configuration as a directory that `transformers` loads.\n"
                          "Example: plasmid checkpoint export runs/lambda_phage --to model");
  exports->add_option("--to", options->to, "the directory to make")->required();
  exports->add_option("--step", options->step, "of which step; else of the newest good checkpoint")
      ->check(CLI::PositiveNumber);
  exports->callback([=, &status] {
    status = alone([&] {
      const Index step = export_checkpoint(options->run, options->step, options->to);
      std::printf("%s: the model of step %s\n", options->to.c_str(), std::to_string(step).c_str());
      return 0;
    });
  });
}

}  // namespace plasmid
