#include "launcher/planner/plan.hpp"

#include "launcher/main/commands.hpp"

namespace plasmid {

void add_plan(CLI::App& app, int* argc, char*** argv, int& status) {
  CLI::App* command = app.add_subcommand(
      "plan",
      "Predicts what a step of a job takes on 1 to 1024 ranks, and how much of it is communication that attention does "
      "not hide.\n"
      "Example: plasmid plan cluster/jobs/ecoli.textproto --ranks 2,4,8,64 --link 10Gbit/s,30us");
  auto options = std::make_shared<PlanOptions>();
  command->add_option("JOB", options->job, "the job, as of `plasmid train`; its data is not read")->required();
  command->add_option("--set", options->overrides, "field=value: replaces one field of the job; may be repeated")
      ->type_name("FIELD=VALUE")
      ->allow_extra_args(false);
  command
      ->add_option("--ranks", options->ranks,
                   "numbers of ranks, multiples of mesh.dp; mesh.cp follows. Else mesh.dp times 1, 2, 4 up to 1024")
      ->delimiter(',')
      ->check(CLI::Range(1, 65536));
  command
      ->add_option("--ceilings", options->ceilings,
                   "JSON of plasmid bench attention or ring, or of plan --json, from the machine to plan for; may be "
                   "repeated. What no file tells is measured here")
      ->type_name("FILE")
      ->allow_extra_args(false);
  command
      ->add_option("--link", options->link,
                   "between hosts, such as 1Gbit/s,50us. Else measured where plan is started "
                   "under mpirun, or of the files")
      ->type_name("RATE,LATENCY");
  command->add_option("--inside-link", options->inside_link, "between ranks of one host, likewise")
      ->type_name("RATE,LATENCY");
  command->add_option("--ranks-per-host", options->ranks_per_host, "neighbours in the ring share a host (1)")
      ->check(CLI::Range(1, 65536));
  command
      ->add_option_function<double>(
          "--host-memory", [options](double gib) { options->host_memory = gib * 1073741824.0; },
          "GiB of a host, for its ranks together; else this host's")
      ->check(CLI::PositiveNumber);
  command->add_flag("--json", options->json, "print JSON");
  command->callback([=, &status] {
    World world(argc, argv);
    status = plan(world, *options);
  });
}

}  // namespace plasmid
