#include "launcher/bootstrap/world.hpp"
#include "launcher/main/commands.hpp"
#include "launcher/trainer/evaluate_run.hpp"

namespace plasmid {

void add_eval(CLI::App& app, int* argc, char*** argv, int& status) {
  CLI::App* command = app.add_subcommand("eval",
                                         "Tells the loss of a run's newest checkpoint over held-out data.\n"
                                         "Example: mpirun -n 2 plasmid eval runs/lambda_phage");
  auto options = std::make_shared<EvaluateOptions>();
  command->add_option("RUN", options->run, "a run directory")->required();
  command->add_option("--step", options->step, "of which checkpoint; else of the newest good one")
      ->check(CLI::PositiveNumber);
  command
      ->add_option("--set", options->overrides,
                   "field=value: replaces one field of the run's job, such as mesh.cp=4; may be repeated")
      ->type_name("FIELD=VALUE")
      ->allow_extra_args(false);
  command->add_option("--files", options->files, "evaluate these files instead of the job's held-out data")
      ->type_name("FILE");
  command->add_flag_callback(
      "--no-markov", [options] { options->markov = false; },
      "leave out the Markov models, which read the training data");
  command->add_flag("--json", options->json, "one JSON object instead of the table");
  command->callback([=, &status] {
    World world(argc, argv);
    status = evaluate_run(world, *options);
  });
}

}  // namespace plasmid
