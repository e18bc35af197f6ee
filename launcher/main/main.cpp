// The `plasmid` command: reads the command line and hands over to one sub-command.
#include <cstdio>

#include "launcher/bootstrap/together.hpp"
#include "launcher/bootstrap/world.hpp"
#include "launcher/main/commands.hpp"
#include "runtime/base/error.hpp"

namespace {

int parse_and_run(int argc, char** argv) {
  CLI::App app(
      "Trains transformers on sequences too long for one device.\n"
      "Example: mpirun -n 2 plasmid train job.textproto --set mesh.cp=2");
  app.name("plasmid");
  app.set_version_flag("--version", "plasmid " PLASMID_VERSION);
  app.require_subcommand(1);
  int status = 0, forwarded = argc;
  char** arguments = argv;
  plasmid::add_train(app, &forwarded, &arguments, status);
  plasmid::add_eval(app, &forwarded, &arguments, status);
  plasmid::add_data(app, status);
  plasmid::add_checkpoint(app, status);
  plasmid::add_plan(app, &forwarded, &arguments, status);
  plasmid::add_doctor(app, &forwarded, &arguments, status);
  plasmid::add_bench(app, &forwarded, &arguments, status);
  const bool speaks = plasmid::launched_rank() == 0;
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& asked) {  // --help, --version
    if (speaks) app.exit(asked);
  } catch (const CLI::ParseError& mistake) {
    const auto chosen = app.get_subcommands();
    const bool unknown = chosen.empty() && argc > 1 && argv[1][0] != '-';  // else "a subcommand is required"
    const std::string what = unknown ? std::string("no command ") + argv[1] : mistake.what();
    if (speaks)
      std::fprintf(stderr, "plasmid: %s; see plasmid %s--help\n", plasmid::one_line(what).c_str(),
                   chosen.empty() ? "" : (chosen.front()->get_name() + " ").c_str());
    return static_cast<int>(plasmid::ErrorCode::usage);
  }
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return parse_and_run(argc, argv);
  } catch (const std::exception& failure) {
    const plasmid::Refusal refusal = plasmid::describe(failure);
    if (plasmid::launched_rank() == 0) std::fprintf(stderr, "plasmid: %s\n", refusal.line.c_str());
    return refusal.exit_status;
  }
}
