#include <cstdio>

#include "launcher/bench/plot.hpp"
#include "launcher/bootstrap/team.hpp"
#include "launcher/bootstrap/together.hpp"
#include "launcher/bootstrap/world.hpp"
#include "launcher/main/commands.hpp"

namespace plasmid {
namespace {

int examine(World& world) {
  Communicator& ranks = world.ranks();
  Team team;
  try {
    together(ranks, [&] { team = form_team(ranks); });
  } catch (const Refusal& refusal) {
    if (!refusal.line.empty()) std::fprintf(stderr, "plasmid: %s\n", refusal.line.c_str());
    return refusal.exit_status;
  }
  const auto rank = static_cast<std::uint64_t>(ranks.rank());
  if (rank == 0) {
    std::printf("plasmid " PLASMID_VERSION
                "\nranks        %d on %d host(s)\nSIMD         %s on every rank\nplots        %s\n",
                ranks.size(), team.hosts, name_of(team.simd).c_str(),
                bench::can_plot() ? "drawn through Cairo" : "refused: built without Cairo");
    std::fflush(stdout);
  }
  for (std::uint64_t turn = 0; turn < static_cast<std::uint64_t>(ranks.size()); ++turn) {
    if (turn == rank)
      std::printf("rank %-7d %d thread(s), %d rank(s) on its host, SIMD up to %s\n", ranks.rank(), team.threads,
                  team.ranks_here, name_of(widest_simd()).c_str());
    std::fflush(stdout);
    ranks.barrier();
  }
  return 0;
}

}  // namespace

void add_doctor(CLI::App& app, int* argc, char*** argv, int& status) {
  CLI::App* command = app.add_subcommand("doctor",
                                         "Shows what a job would run on: ranks, hosts, threads and SIMD.\n"
                                         "Example: mpirun -n 2 plasmid doctor");
  command->callback([=, &status] {
    World world(argc, argv);
    status = examine(world);
  });
}

}  // namespace plasmid
