// `plasmid bench scaling`: the trainer's step on some of the ranks that were started, by their number. One start holds
// them all: no launcher is nested in another, the ranks keep their places and cores, and what ran on few is compared
// with what ran on many in the same minutes. Ranks that are not needed sleep meanwhile.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <optional>
#include <thread>

#include "launcher/bench/benchmark.hpp"
#include "launcher/bench/plot.hpp"
#include "launcher/bench/scaling_plot.hpp"
#include "launcher/bench/step_check.hpp"
#include "launcher/bench/step_options.hpp"
#include "launcher/bench/synthetic_corpus.hpp"
#include "launcher/bootstrap/together.hpp"
#include "launcher/trainer/step_cost.hpp"
#include "runtime/base/error.hpp"

namespace plasmid::bench {
namespace {

constexpr Index kCheckedTokens = 1024;

// Runs `stage` on the first `busy` ranks, as a group of their own; the others sleep until rank 0 says that it is over,
// and leave as it did.
void on_some(Communicator& world, int busy, const std::function<void(Communicator&)>& stage) {
  const int rank = world.rank();
  const std::unique_ptr<Communicator> group = world.split(rank < busy ? 0 : -1, rank);
  Stream stream;
  Index word = -1;
  if (group) {
    word = 0;
    std::optional<Refusal> refusal;
    try {
      stage(*group);
    } catch (const Refusal& refused) {
      refusal = refused, word = refused.exit_status;
    }
    if (rank == 0)
      for (int other = busy; other < world.size(); ++other) {
        const Transfer transfer{view_of(std::span(&word, 1)), other, {}, -1, 0};
        world.exchange({&transfer, 1}, stream).wait(stream);
      }
    if (refusal) throw Refusal(*refusal);
    return;
  }
  const Transfer transfer{{}, -1, view_of(std::span(&word, 1)), 0, 0};
  Pending arrival = world.exchange({&transfer, 1}, stream);
  while (std::atomic_ref(word).load() == -1) {
    world.poll();
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  arrival.wait(stream);
  if (word != 0) throw Refusal{static_cast<int>(word), ""};
}

class ScalingBenchmark final : public Benchmark {
 public:
  void add_options(CLI::App& app) override {
    app.add_option("--ranks", counts_, "numbers of ranks to measure, up to those started. Else 1, 2, 4, ... and all")
        ->delimiter(',')
        ->check(CLI::Range(1, 1 << 20));
    CLI::Option* const strong =
        app.add_flag("--strong", strong_, "one window of --tokens for any number of ranks: the default");
    app.add_flag("--weak", weak_, "--tokens for each rank: the window grows with them, and attention's share with it")
        ->excludes(strong);
    step_.add_shape_to(app);
    app.add_option("--plot", plot_, "draw PREFIX.svg and PREFIX.png")->type_name("PREFIX");
  }

  void run(Session& session) override {
    together(session.ranks(), [&] { check(session.ranks().size(), session.options().on_request); });
    for (const int count : counts_) {
      Job job;
      together(session.ranks(), [&] { job = step_.resolve_for(tokens(count), count); });
      on_some(session.ranks(), count, [&](Communicator& group) { measure(session, job, group); });
    }
    if (!session.speaks()) return;
    report(session);
  }

 private:
  Index tokens(int count) const { return step_.tokens.front() * (weak_ ? count : 1); }

  void check(int started, bool on_request) {
    if (on_request) throw Error(ErrorCode::usage, "bench scaling: --on-request is of one workload, not of several");
    if (step_.tokens.size() != 1) throw Error(ErrorCode::usage, "--tokens: bench scaling takes one length");
    if (counts_.empty())
      for (int count = 1; count <= started; count = count < started ? std::min(2 * count, started) : started + 1)
        counts_.push_back(count);
    std::ranges::sort(counts_);
    counts_.erase(std::ranges::unique(counts_).begin(), counts_.end());
    if (counts_.back() > started)
      throw Error(ErrorCode::usage, "--ranks: " + std::to_string(counts_.back()) + " ranks, but " +
                                        std::to_string(started) + " were started; mpirun -n " +
                                        std::to_string(counts_.back()) + " plasmid bench scaling starts them all");
    if (!plot_.empty() && !can_plot())
      throw Error(ErrorCode::config, "--plot: this plasmid was built without Cairo (PLASMID_CAIRO) and draws no plots");
  }

  void measure(Session& session, const Job& job, Communicator& group) {
    const v1::Job& fields = job.fields;
    const Index length = fields.data().sequence_length();
    SyntheticCorpus corpus(length + 1);
    ProcessMesh mesh(group, {1, group.size(), 1});
    const Index available = machine_bytes() / session.team().ranks_here;
    check_step(job, mesh, corpus, kCheckedTokens, available);
    std::optional<Trainer> trainer;
    together(group, [&] { trainer.emplace(job, mesh, corpus, available).initialize(); });
    Index step = 0;
    const StepResult first = trainer->step(++step);
    together(group, [&] { check_loss(first); });

    Row row{.name = std::to_string(group.size()) + (group.size() == 1 ? " rank" : " ranks"),
            .shape = step_shape(job, session.threads())};
    row.shape["scaling"] = weak_ ? "weak" : "strong";
    Communicator* const waits = group.size() > 1 ? &group : nullptr;
    row.before = measure_ceilings(session.threads(), waits);
    row.repetitions = repeat(
        session.options().repeats, [&] { trainer->step(++step); }, &group);
    row.after = measure_ceilings(session.threads(), waits);
    row.value = row.repetitions.spread(Clock::wall);
    const double flops = step_cost(fields, *model_of(job, group)).flops;  // of a rank
    row.figures = {{"tokens_a_rank", static_cast<double>(length) / group.size(), Unit::count},
                   {"rate", flops * group.size() / row.value.median, Unit::flop_rate},
                   {"of_fma", flops / row.value.median / ((row.before.fma + row.after.fma) / 2)}};
    rows_.push_back({group.size(), flops, std::move(row)});
  }

  // A window cut over more ranks is the same window.
  void check_loss(const StepResult& first) {
    if (!first.finite) throw Error(ErrorCode::software, "a wrong result: the loss or the gradient is not finite");
    if (weak_) return;
    if (!loss_) loss_ = first.loss;
    if (std::abs(first.loss - *loss_) > 1e-5 * *loss_)
      throw Error(ErrorCode::software, "a wrong result: loss " + std::to_string(first.loss) +
                                           " where fewer ranks had " + std::to_string(*loss_));
  }

  // Against the fewest ranks measured, as if every FLOP of a rank took as long as there.
  void report(Session& session) {
    const Measured& base = rows_.front();
    ScalingPlot plot{.weak = weak_, .tokens = step_.tokens.front(), .model = {}, .points = {}};
    for (Measured& measured : rows_) {
      const double ideal = base.row.value.median * measured.flops / base.flops, seconds = measured.row.value.median;
      measured.row.figures.push_back({"ideal", ideal, Unit::seconds});
      measured.row.figures.push_back({"efficiency", ideal / seconds});
      plot.points.push_back({measured.ranks, seconds, ideal});
    }
    for (Measured& measured : rows_) session.add(measured.row);
    session.note(
        "ideal: the FLOPs of a rank at the rate of the fewest ranks; attention's grow with the square of the "
        "window, so a flat line is not the ideal where the window grows");
    if (plot_.empty()) return;
    plot.model = step_.family + ", " + std::to_string(step_.layers) + " layers, width " + std::to_string(step_.width);
    draw(plot_of(plot), plot_ + ".svg", plot_ + ".png");
    session.note("drawn: " + plot_ + ".svg, " + plot_ + ".png");
  }

  struct Measured {
    int ranks = 1;
    double flops = 0;  // of a rank
    Row row;
  };
  std::vector<int> counts_;
  bool weak_ = false, strong_ = false;
  StepOptions step_;
  std::string plot_;
  std::vector<Measured> rows_;
  std::optional<double> loss_;
};

}  // namespace

extern const BenchmarkDefinition scaling_benchmark;
const BenchmarkDefinition scaling_benchmark = {
    "scaling",
    "Times a training step on 1, 2, 4, ... of the ranks that were started, against ideal FLOPs, and draws it. Start as "
    "many as the largest number; inside a SLURM allocation, by srun.\n"
    "Example: mpirun -n 8 plasmid bench scaling --ranks 1,2,4,8 --tokens 8192 --threads 1 --plot scaling",
    true, []() -> std::unique_ptr<Benchmark> { return std::make_unique<ScalingBenchmark>(); }};

}  // namespace plasmid::bench
