// `plasmid bench attention`: the kernel of one rank.
#include <optional>

#include "launcher/bench/attention_options.hpp"
#include "launcher/bench/attention_shard.hpp"
#include "launcher/bench/benchmark.hpp"
#include "launcher/bootstrap/together.hpp"
#include "runtime/base/error.hpp"

namespace plasmid::bench {
namespace {

class LocalAttention {
 public:
  LocalAttention(const AttentionShape& shape, double dropout)
      : oracle_(shape), shard_(oracle_, {{{0, shape.tokens}}}, 0), mask_(shard_.mask(0)) {
    if (dropout > 0) dropout_ = AttentionDropout{{1, dropped_of_65536(dropout)}, line(), line(), 0};
  }

  void forward() {
    attention_start(shard_.out(), shard_.lse());
    kernel_->forward(call(), shard_.out(), shard_.lse(), scratch_);
  }
  void backward() {
    attention_delta(shard_.out(), shard_.dout(), shard_.delta());
    kernel_->backward(call(), shard_.lse(), shard_.delta(), shard_.dout(), shard_.dq(), shard_.dk(), shard_.dv(),
                      scratch_);
  }
  void check() {
    const std::optional<AttentionDropout> dropout = std::exchange(dropout_, {});
    forward(), backward();  // gradients start at zero
    shard_.check(shard_.sums());
    dropout_ = dropout;
  }

 private:
  std::span<const Range> line() const { return shard_.map().owned(); }
  Attend call() {
    return {shard_.q(), shard_.k(), shard_.v(), mask_, oracle_.shape().scale(), {}, dropout_ ? &*dropout_ : nullptr};
  }

  AttentionOracle oracle_;
  AttentionShard shard_;
  MaskPlan mask_;
  std::optional<AttentionDropout> dropout_;
  Ledger ledger_;
  Arena scratch_{Arena::Kind::pool, ledger_};
  std::unique_ptr<AttentionKernel> kernel_ = make_host_kernel();
};

class AttentionBenchmark final : public Benchmark {
 public:
  void add_options(CLI::App& app) override {
    options_.add_to(app);
    app.add_option("--dropout", dropout_, "of the weights while timed; results are checked without (0)")
        ->check(CLI::Range(0.0, 0.99));
  }

  void run(Session& session) override {
    together(session.ranks(), [&] {
      if (session.ranks().size() > 1)
        throw Error(ErrorCode::usage, "bench attention: the kernel of one rank, but " +
                                          std::to_string(session.ranks().size()) +
                                          " were started; plasmid bench ring is for several");
      for (const Index tokens : options_.tokens) options_.shape(tokens);
    });
    session.require_one_workload(options_.tokens.size() * options_.passes.size());
    for (const Index tokens : options_.tokens) measure(session, options_.shape(tokens));
  }

 private:
  void measure(Session& session, const AttentionShape& shape) {
    std::optional<LocalAttention> attention;
    together(session.ranks(), [&] { attention.emplace(shape, dropout_).check(); });
    for (const std::string& pass : options_.passes) {
      std::optional<Row> row =
          session.measure({.name = describe(shape, options_) + (dropout_ > 0 ? " dropout " : " ") + pass,
                           .shape = json_of(shape, options_, pass, session, dropout_),
                           .flops = shape.flops(pass),
                           .run = [&] {
                             if (pass != "backward") attention->forward();
                             if (pass != "forward") attention->backward();
                           }});
      if (row) session.add(std::move(*row));
    }
  }

  AttentionOptions options_;
  double dropout_ = 0;
};

}  // namespace

extern const BenchmarkDefinition attention_benchmark;
const BenchmarkDefinition attention_benchmark = {
    "attention",
    "Times the attention kernel of one rank, forward and backward.\n"
    "Example: plasmid bench attention --tokens 2048,8192 --heads 1 --d 64 --threads 1 --json attention.json",
    true, []() -> std::unique_ptr<Benchmark> { return std::make_unique<AttentionBenchmark>(); }};

}  // namespace plasmid::bench
