#include "launcher/bench/session.hpp"

#include <omp.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <iostream>

#include "launcher/bench/environment.hpp"
#include "launcher/bench/peak_resident.hpp"
#include "launcher/bootstrap/together.hpp"
#include "runtime/base/error.hpp"

namespace plasmid::bench {
namespace {

Team team_for(Communicator& ranks, const Options& options) {
  Team team;
  together(ranks, [&] {
    team = form_team(ranks);
    for (const Simd simd : {Simd::sse4, Simd::avx2, Simd::avx512})
      if (options.simd == name_of(simd)) {
        if (simd > team.simd)
          throw Error(ErrorCode::usage, "--simd: " + options.simd + " is not on every rank: " + name_of(team.simd));
        limit_simd(team.simd = simd);
      }
    if (options.threads > 0) omp_set_num_threads(team.threads = options.threads);
  });
  return team;
}

double least(double mine, Communicator* ranks) {
  if (!ranks) return mine;
  double negative = -mine;
  Stream stream;
  ranks->all_reduce(view_of(std::span(&negative, 1)), Reduce::max, stream).wait(stream);
  return -negative;
}

double median_of(const Series& series, double Times::*member) {
  std::vector<double> values;
  for (const Times& times : series.all) values.push_back(times.*member);
  return spread_of(values).median;
}

}  // namespace

Session::Session(World& world, const std::string& benchmark, const Options& options)
    : world_(world),
      options_(options),
      team_(team_for(world.ranks(), options)),
      result_(benchmark, environment(team_, world.ranks().size(), world.library())) {
  together(ranks(), [&] {
    if (speaks() && !options_.json.empty()) file_.emplace(options_.json);
  });
}

Ceilings Session::ceilings() {
  if (!last_) last_ = measure_ceilings(threads(), waits_for());
  return *last_;
}

std::optional<Row> Session::measure(const Workload& workload) {
  if (options_.on_request) {
    serve(workload);
    return {};
  }
  Row row{.name = workload.name, .shape = workload.shape, .clock = clock()};
  row.before = ceilings();
  const PeakResident resident;
  std::vector<double> fma;
  if (workload.beside) workload.beside();
  workload.run();
  for (int i = 0; i < options_.repeats; ++i) {
    fma.push_back(fma_rate(threads()));
    if (workload.beside) row.beside.all.push_back(time_of(workload.beside, waits_for()));
    row.repetitions.all.push_back(time_of(workload.run, waits_for()));
  }
  resident_ = static_cast<Index>(ranks().agree_max(static_cast<std::uint64_t>(resident.bytes())));
  last_.reset();
  row.after = ceilings();
  row.value = row.repetitions.spread(row.clock);

  const double ranks_here = ranks().size(), cores = ranks_here * least(spread_of(fma).median, waits_for());
  if (workload.flops > 0) {
    const double rate = workload.flops / row.value.median;
    row.figures = {{"rate", rate, Unit::flop_rate},
                   {"of_fma", rate / cores},
                   {"of_sgemm", rate / (ranks_here * (row.before.sgemm + row.after.sgemm) / 2)},
                   {"FMA_loop", cores, Unit::flop_rate}};
  }
  const double cpu = median_of(row.repetitions, &Times::cpu);
  row.figures.push_back({"wall_to_cpu", median_of(row.repetitions, &Times::wall) * threads() / cpu});
  return row;
}

void Session::serve(const Workload& workload) {
  const PeakResident resident;
  workload.run();
  const auto print = [&](const nlohmann::ordered_json& object) {
    if (!speaks()) return;
    std::printf("%s\n", object.dump().c_str());
    std::fflush(stdout);
  };
  std::vector<std::int64_t> pids(static_cast<std::size_t>(ranks().size()));
  const std::int64_t own = ::getpid();
  Stream stream;
  ranks().all_gather(view_of(std::span(&own, 1)), view_of(std::span(pids)), stream).wait(stream);
  print({{"ready", workload.name}, {"shape", workload.shape}, {"flops", workload.flops}, {"pids", pids}});
  std::string line;
  while (ranks().agree_max(speaks() && std::getline(std::cin, line))) {
    const double fma = ranks().size() * least(fma_rate(threads()), waits_for());
    const Times times = time_of(workload.run, waits_for());
    print({{"wall", times.wall},
           {"cpu", times.cpu},
           {"thread", times.thread},
           {"fma", fma},
           {"resident_peak", ranks().agree_max(static_cast<std::uint64_t>(resident.bytes()))}});
  }
}

void Session::require_one_workload(std::size_t count) {
  together(ranks(), [&] {
    if (options_.on_request && count != 1)
      throw Error(ErrorCode::usage, "--on-request: one workload is run, not " + std::to_string(count));
  });
}

void Session::finish() {
  together(ranks(), [&] {
    if (!speaks() || options_.on_request) return;
    result_.print();
    if (!file_) return;
    file_->write(result_.json().dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
    file_->commit();
  });
}

}  // namespace plasmid::bench
