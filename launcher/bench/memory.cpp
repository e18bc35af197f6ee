// `plasmid bench memory`: what training steps hold at once, by kind, against what the model's cost() tells beforehand.
#include <map>
#include <optional>

#include "launcher/bench/benchmark.hpp"
#include "launcher/bench/peak_resident.hpp"
#include "launcher/bench/step_check.hpp"
#include "launcher/bench/step_options.hpp"
#include "launcher/bench/synthetic_corpus.hpp"
#include "launcher/bootstrap/together.hpp"
#include "launcher/trainer/step_cost.hpp"
#include "runtime/base/error.hpp"

namespace plasmid::bench {
namespace {

constexpr Index kCheckedTokens = 512;
constexpr int kSteps = 2;  // the second must need no more than the first

double bytes(Index count) { return static_cast<double>(count); }

class MemoryBenchmark final : public Benchmark {
 public:
  void add_options(CLI::App& app) override {
    options_.add_shape_to(app);
    app.add_option("--recompute", levels_, "which levels to measure: NONE, CORE, ALL (NONE,CORE,ALL)")
        ->delimiter(',')
        ->check(CLI::IsMember({"NONE", "CORE", "ALL"}));
    app.add_option("--dp", groups_, "which numbers of groups with a window each; the ranks of a group share it (1)")
        ->delimiter(',')
        ->check(CLI::Range(Index{1}, Index{1} << 30));
  }

  void run(Session& session) override {
    for (const Index tokens : options_.tokens)
      for (const Index dp : groups_)
        for (const std::string& level : levels_) {
          options_.dp = dp, options_.recompute = level;
          Job job;
          together(session.ranks(), [&] { job = options_.resolve_for(tokens, session.ranks().size()); });
          measure(session, job);
        }
    session.note(
        "Bytes of the rank with most. cost: what the program tells beforehand and refuses a job by; beside it "
        "stand the program itself and MPI's buffers.");
  }

 private:
  void measure(Session& session, const Job& job) {
    Communicator& ranks = session.ranks();
    const v1::Job& fields = job.fields;
    SyntheticCorpus corpus(fields.data().sequence_length() * fields.train().batch() + 1);
    ProcessMesh mesh(ranks, {static_cast<int>(fields.mesh().dp()), static_cast<int>(fields.mesh().cp()), 1});
    const Index available = machine_bytes() / session.team().ranks_here;
    check_step(job, mesh, corpus, kCheckedTokens, available);
    const StepCost cost = step_cost(fields, *model_of(job, mesh.along(axes::cp)));

    const PeakResident resident;
    std::optional<Trainer> trainer;
    together(ranks, [&] { trainer.emplace(job, mesh, corpus, available).initialize(); });
    for (int step = 1; step <= kSteps; ++step) trainer->step(step);
    const Ledger& ledger = trainer->ledger();
    together(ranks, [&] {
      if (ledger.peak_bytes() > cost.total())
        throw Error(ErrorCode::software, "a wrong result: " + std::to_string(ledger.peak_bytes()) +
                                             " bytes were held at once where cost() tells " +
                                             std::to_string(cost.total()) + " at most");
    });
    const auto most = [&](Index mine) {
      return bytes(static_cast<Index>(ranks.agree_max(static_cast<std::uint64_t>(mine))));
    };
    std::map<std::string, Index> kinds;
    ledger.for_each_tag([&](std::string_view tag, Index, Index peak) { kinds[std::string(tag)] = peak; });
    const ForwardParts parts = trainer->forward_parts();

    Row row{.name = name_of(job), .shape = shape_of(job, session), .unit = Unit::bytes};
    const double peak = most(resident.bytes());
    row.value = {peak, peak, peak};
    for (const char* kind : {"weights", "gradients", "moments"})
      row.figures.push_back({kind, most(kinds[kind]), Unit::bytes});
    const double held = most(ledger.peak_bytes());
    const Figure figures[] = {{"kept", most(parts.saved.peak_bytes()), Unit::bytes},
                              {"scratch", most(parts.scratch.peak_bytes()), Unit::bytes},
                              {"peak", held, Unit::bytes},
                              {"cost", bytes(cost.total()), Unit::bytes},
                              {"peak_to_cost", held / bytes(cost.total())},
                              {"resident_before", most(resident.before()), Unit::bytes},
                              {"grown", most(resident.bytes() - resident.before()), Unit::bytes}};
    row.figures.insert(row.figures.end(), std::begin(figures), std::end(figures));
    for (const auto& [tag, most_of_tag] : kinds) row.details["peak_by_tag_on_rank_0"][tag] = most_of_tag;
    session.add(std::move(row));
  }

  static std::string name_of(const Job& job) {
    const v1::Mesh& mesh = job.fields.mesh();
    return std::to_string(job.fields.data().sequence_length()) + " tokens, dp " + std::to_string(mesh.dp()) + " x cp " +
           std::to_string(mesh.cp()) + ", " + v1::Train::Recompute_Name(job.fields.train().recompute());
  }
  static nlohmann::ordered_json shape_of(const Job& job, Session& session) {
    return step_shape(job, session.threads());
  }

  StepOptions options_;
  std::vector<std::string> levels_ = {"NONE", "CORE", "ALL"};
  std::vector<Index> groups_ = {1};
};

}  // namespace

extern const BenchmarkDefinition memory_benchmark;
const BenchmarkDefinition memory_benchmark = {
    "memory",
    "Tells the peak bytes of training steps by kind, as counted and as the system sees them, against what is told "
    "beforehand.\n"
    "Example: mpirun -n 2 plasmid bench memory --tokens 4096,16384 --recompute NONE,ALL",
    false, []() -> std::unique_ptr<Benchmark> { return std::make_unique<MemoryBenchmark>(); }};

}  // namespace plasmid::bench
