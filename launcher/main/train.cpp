#include "launcher/bootstrap/together.hpp"
#include "launcher/bootstrap/world.hpp"
#include "launcher/job/job_file.hpp"
#include "launcher/main/commands.hpp"
#include "launcher/run/exit_record.hpp"
#include "launcher/trainer/dry_run.hpp"
#include "launcher/trainer/session.hpp"

namespace plasmid {
namespace {

// A job that never started has not failed at training, but whoever reads exit.json must not find an older word there.
void record(const TrainOptions& options, const Refusal& refusal) noexcept try {
  if (launched_rank() == 0)
    record_refusal(read_job(options.job, options.overrides).job.run_directory(), refusal.exit_status, refusal.line);
} catch (const std::exception&) {
  // A job that cannot be read names no directory.
}

// Under a launcher each process does the same alone, and one speaks.
int dry_run_alone(const TrainOptions& options, int ranks) {
  if (launched_rank() == 0) dry_run(options, ranks);
  return 0;
}

}  // namespace

void add_train(CLI::App& app, int* argc, char*** argv, int& status) {
  CLI::App* command =
      app.add_subcommand("train",
                         "Trains the model of a job file.\n"
                         "Example: mpirun -n 2 plasmid train cluster/jobs/lambda_phage.textproto --set train.steps=20");
  auto options = std::make_shared<TrainOptions>();
  command->add_option("JOB", options->job, "the job, as protobuf text or JSON (fields: proto/job.proto)")->required();
  command
      ->add_option("--set", options->overrides,
                   "field=value: replaces one field of the job, a list by the one value; may be repeated")
      ->type_name("FIELD=VALUE")
      ->allow_extra_args(false);
  auto dry = std::make_shared<bool>(false);
  auto ranks = std::make_shared<int>(0);
  CLI::Option* const dry_option = command->add_flag(
      "--dry-run", *dry,
      "print the resolved job, which can be read again, with the bytes, FLOPs and tokens of each rank in its comments; "
      "nothing is written, no data is read, and the ranks need not be there");
  command->add_option("--ranks", *ranks, "of --dry-run: for this many ranks; else as many as the mesh has")
      ->check(CLI::PositiveNumber)
      ->needs(dry_option);
  command->footer(
      "Environment: OMP_NUM_THREADS: threads of a rank (else its processors, divided among the ranks that share "
      "them);\n"
      "PLASMID_HUGE_PAGES=1: tensors of 16 MiB and more lie on huge pages, where the system has transparent ones.");
  command->callback([=, &status] {
    if (*dry) {
      status = dry_run_alone(*options, *ranks);
      return;
    }
    try {
      World world(argc, argv);
      status = train(world, *options);
    } catch (const std::exception& failure) {  // of MPI's start
      record(*options, describe(failure));
      throw;
    }
  });
}

}  // namespace plasmid
