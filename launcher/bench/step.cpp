// `plasmid bench step`: the trainer's step, from reading its windows to the updated weights. FLOPs: 6 for each weight
// of a matrix product and token, and attention's pairs, causal ones counted half; what is computed again is not
// counted.
#include <cmath>
#include <optional>

#include "launcher/bench/benchmark.hpp"
#include "launcher/bench/step_check.hpp"
#include "launcher/bench/step_options.hpp"
#include "launcher/bench/synthetic_corpus.hpp"
#include "launcher/bootstrap/together.hpp"
#include "launcher/trainer/job_data.hpp"
#include "launcher/trainer/step_cost.hpp"
#include "runtime/base/error.hpp"

namespace plasmid::bench {
namespace {

constexpr Index kCheckedTokens = 1024;

class StepBenchmark final : public Benchmark {
 public:
  void add_options(CLI::App& app) override { options_.add_to(app); }

  void run(Session& session) override {
    if (options_.from_file()) options_.tokens = {0};  // the job's
    session.require_one_workload(options_.tokens.size());
    for (const Index tokens : options_.tokens) {
      Job job;
      together(session.ranks(), [&] { job = options_.resolve_for(tokens, session.ranks().size()); });
      measure(session, job);
    }
  }

 private:
  void measure(Session& session, const Job& job) {
    Communicator& ranks = session.ranks();
    const v1::Job& fields = job.fields;
    const Index length = fields.data().sequence_length(), batch = fields.train().batch();
    SyntheticCorpus made_up(length * batch + 1);
    const JobData data = options_.from_file() ? open_data(ranks, fields.data()) : JobData{};
    Corpus& corpus = options_.from_file() ? *data.training : made_up;
    ProcessMesh mesh(ranks, {static_cast<int>(fields.mesh().dp()), static_cast<int>(fields.mesh().cp()), 1});
    const Index available = machine_bytes() / session.team().ranks_here;
    check_step(job, mesh, corpus, kCheckedTokens, available);

    std::optional<Trainer> trainer;
    together(ranks, [&] { trainer.emplace(job, mesh, corpus, available).initialize(); });
    Index step = 0;
    const auto one_step = [&] { return trainer->step(++step); };
    const StepResult first = one_step(), second = one_step();
    together(ranks, [&] { check_losses(job, first, second); });

    const StepCost cost = step_cost(fields, *model_of(job, mesh.along(axes::cp)));
    std::optional<Row> row = session.measure({.name = name_of(job),
                                              .shape = step_shape(job, session.threads()),
                                              .flops = cost.flops * static_cast<double>(ranks.size()),
                                              .run = [&] { one_step(); }});
    if (!row) return;
    row->figures.push_back({"tokens", static_cast<double>(length * batch) / row->value.median, Unit::token_rate});
    row->figures.push_back({"ledger_peak", largest(trainer->ledger().peak_bytes(), ranks), Unit::bytes});
    row->figures.push_back({"resident_peak", static_cast<double>(session.resident_peak()), Unit::bytes});
    session.add(std::move(*row));
  }

  void check_losses(const Job& job, const StepResult& first, const StepResult& second) const {
    if (!first.finite || !second.finite)
      throw Error(ErrorCode::software, "a wrong result: the loss or the gradient is not finite");
    if (options_.from_file()) return;
    // Fresh weights guess all tokens alike, and a step on the window that comes again lowers its loss.
    const double even = std::log(static_cast<double>(job.shape.vocabulary));
    if (std::abs(first.loss - even) > 1 || !(second.loss < first.loss))
      throw Error(ErrorCode::software, "a wrong result: losses " + std::to_string(first.loss) + " and " +
                                           std::to_string(second.loss) + " where fresh weights give " +
                                           std::to_string(even) + ", and less after a step");
  }

  std::string name_of(const Job& job) const {
    const ModelShape& shape = job.shape;
    return (options_.from_file() ? options_.job : options_.family) + " " + std::to_string(shape.layers) + " x " +
           std::to_string(shape.width) + ", " + std::to_string(job.fields.train().batch()) + " x " +
           std::to_string(job.fields.data().sequence_length());
  }

  static double largest(Index bytes, Communicator& ranks) {
    return static_cast<double>(ranks.agree_max(static_cast<std::uint64_t>(bytes)));
  }

  StepOptions options_;
};

}  // namespace

extern const BenchmarkDefinition step_benchmark;
const BenchmarkDefinition step_benchmark = {
    "step",
    "Times a whole training step: data, forward, backward, update; over the ranks that were started.\n"
    "Example: plasmid bench step --layers 6 --width 384 --heads 6 --tokens 4096,16384 --threads 2",
    true, []() -> std::unique_ptr<Benchmark> { return std::make_unique<StepBenchmark>(); }};

}  // namespace plasmid::bench
