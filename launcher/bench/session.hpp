#pragma once
#include <filesystem>
#include <optional>
#include <string>

#include "launcher/bench/result.hpp"
#include "launcher/bootstrap/team.hpp"
#include "launcher/bootstrap/world.hpp"
#include "runtime/io/file.hpp"

namespace plasmid::bench {

struct Options {  // of every benchmark
  int repeats = 7;
  int threads = 0;             // of a rank; 0: as a job's
  std::string simd;            // name_of(Simd); empty: the widest that all ranks have
  std::filesystem::path json;  // empty: none
  bool on_request = false;
};

struct Workload {
  std::string name;
  nlohmann::ordered_json shape;  // what a comparison requires to be equal, beside the name
  double flops = 0;              // of one call, all ranks together; 0: no rate is told
  Work run;                      // collective over all ranks
  Work beside = {};              // called and timed in turn with it, call by call; empty: nothing is
};

// One run of a benchmark on one rank. All members are collective but those that only tell.
class Session {
 public:
  // Forms the team. Throws Refusal for more SIMD than the ranks have, a file that cannot be written, as form_team.
  Session(World&, const std::string& benchmark, const Options&);

  Communicator& ranks() { return world_.ranks(); }
  bool speaks() { return ranks().rank() == 0; }
  int threads() const { return team_.threads; }
  const Team& team() const { return team_; }
  const Options& options() const { return options_; }
  Clock clock() { return clock_for(threads(), ranks().size()); }

  // One call to warm up, then `repeats` timed ones, the FMA loop before each, and all ceilings before and after. The
  // row has the figures: rate, of_fma and of_sgemm (rates of all ranks to those of as many of the slowest), and
  // wall_to_cpu, which is above 1 where threads waited: for each other, for another rank, or for a core.
  // On request: instead, and there is no row, prints a line {"ready", "shape", "flops", "pids" of the ranks}, then for
  // each line of standard input one of a call: {"wall", "cpu", "thread", "fma": FLOP/s of all ranks just before,
  // "resident_peak"}.
  std::optional<Row> measure(const Workload&);

  // The most bytes that the process of a rank held at once in the repetitions of the last row.
  Index resident_peak() const { return resident_; }
  // The ceilings of all ranks at once, those of the last row where nothing was timed since.
  Ceilings ceilings();

  void add(Row row) { result_.add(std::move(row)); }
  void note(std::string line) { result_.note(std::move(line)); }
  void require_one_workload(std::size_t count);  // Refusal where requests could mean several
  void finish();                                 // rank 0 prints the table and writes the file

 private:
  void serve(const Workload&);
  Communicator* waits_for() { return ranks().size() > 1 ? &ranks() : nullptr; }

  World& world_;
  Options options_;
  Team team_;
  Result result_;
  std::optional<AtomicFile> file_;  // on rank 0, where one is asked for
  std::optional<Ceilings> last_;
  Index resident_ = 0;
};

}  // namespace plasmid::bench
