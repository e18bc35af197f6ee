#include "launcher/bootstrap/world.hpp"
#include "launcher/main/commands.hpp"
#include "launcher/trainer/session.hpp"

namespace plasmid {

void add_train(CLI::App& app, int* argc, char*** argv, int& status) {
  CLI::App* command =
      app.add_subcommand("train",
                         "Trains the model of a job file.\n"
                         "Example: mpirun -n 2 plasmid train cluster/jobs/lambda_phage.textproto --set train.steps=20");
  auto options = std::make_shared<TrainOptions>();
  command->add_option("JOB", options->job, "the job, as protobuf text or JSON (fields: proto/job.proto)")->required();
  command->add_option("--set", options->overrides, "field=value: replaces one field of the job; may be repeated")
      ->type_name("FIELD=VALUE")
      ->allow_extra_args(false);
  command->callback([=, &status] {
    World world(argc, argv);
    status = train(world, *options);
  });
}

}  // namespace plasmid
