#include "launcher/trainer/evaluate_run.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <numbers>
#include <optional>

#include "launcher/bootstrap/team.hpp"
#include "launcher/bootstrap/together.hpp"
#include "launcher/trainer/evaluation.hpp"
#include "launcher/trainer/job_data.hpp"
#include "launcher/trainer/same_inputs.hpp"
#include "launcher/trainer/trainer.hpp"
#include "launcher/trainer/yardstick.hpp"
#include "launcher/watchdog/watchdog.hpp"
#include "parallel/checkpoint/manifest.hpp"
#include "parallel/checkpoint/reader.hpp"
#include "runtime/base/check.hpp"
#include "runtime/base/error.hpp"
#include "runtime/data/corpus_digest.hpp"
#include "runtime/data/file_kind.hpp"
#include "runtime/io/digest.hpp"

namespace plasmid {
namespace {

namespace fs = std::filesystem;

long long as_long(Index value) { return value; }  // for %lld

class Evaluator {
 public:
  Evaluator(World& world, const EvaluateOptions& options)
      : ranks_(world.ranks()), options_(options), watchdog_(world) {}

  void leave_watch(const Refusal& refusal) { watchdog_.leave(refusal.exit_status); }

  int run() {
    together(ranks_, [&] { available_bytes_ = machine_bytes() / form_team(ranks_).ranks_here; });
    take_weights();
    JobData data = open_data(ranks_, job_.fields.data(), options_.markov ? options_.files : std::vector<std::string>());
    if (!data.held_out) data.held_out = std::move(data.training);  // --files alone
    FieldValues read = {{"checkpoint", checkpoint_.filename().string()}};
    together(ranks_, [&] {
      read.emplace_back("held-out data: content", digest_of(*data.held_out));
      if (data.training) read.emplace_back("data.files: content", require_same_data(*data.training));
    });
    require_same_on_all_ranks(ranks_, read);
    Evaluation evaluation(job_.fields, *mesh_, *data.held_out);
    const LossSums sums = evaluate(evaluation);
    watchdog_.leave();
    if (ranks_.rank() == 0) {
      const bool compares = options_.markov && data.training;
      tell(evaluation, sums, compares ? score_yardstick(data) : MarkovScore());
    }
    return 0;
  }

 private:
  JobFile read_run() const {
    std::error_code problem;
    const fs::path job = options_.run / "job.textproto";
    if (!fs::is_directory(options_.run, problem) || !fs::exists(job, problem))
      throw Error(ErrorCode::no_input, options_.run.string() + ": no run directory");
    return read_job(job);
  }

  // A run that goes on may remove the checkpoint that is being read: then a newer one has come.
  void take_weights() {
    constexpr int kAttempts = 100;
    for (int attempt = 1;; ++attempt) {
      const Index newest = newest_step();
      try {
        together(ranks_, [&] {
          file_ = read_run();
          watchdog_.set_timeout(file_.job.train().timeout_seconds());
        });
        find_weights();
        load_weights_of_checkpoint();
        return;
      } catch (const Refusal&) {  // on all ranks
        if (options_.step > 0 || attempt == kAttempts || newest_step() == newest) throw;
      }
    }
  }

  Index newest_step() {  // rank 0's word; 0: there is none
    std::vector<Index> steps;
    together(ranks_, [&] {
      if (ranks_.rank() == 0) steps = checkpoint_steps(checkpoints());
    });
    return static_cast<Index>(ranks_.agree_max(steps.empty() ? 0 : static_cast<std::uint64_t>(steps.back())));
  }

  fs::path checkpoints() const { return options_.run / "checkpoints"; }

  // Fills checkpoint_ and manifest_ from a checkpoint whose every byte is as it was written.
  void find_weights() {
    const fs::path folder = checkpoints();
    if (options_.step > 0) {
      together(ranks_, [&] {
        checkpoint_ = checkpoint_path(folder, options_.step);
        if (!fs::exists(checkpoint_)) throw Error(ErrorCode::no_input, checkpoint_.string() + ": no such checkpoint");
        manifest_ = read_manifest(checkpoint_);
        verify_files(checkpoint_, manifest_);
      });
      return;
    }
    CheckpointSearch found;
    std::string problem;
    ErrorCode code = ErrorCode::no_input;
    try {
      found = find_checkpoint(ranks_, folder);
      if (found.folder.empty() && found.damaged.empty()) {
        problem = options_.run.string() + ": holds no checkpoint";
      } else if (found.folder.empty()) {
        problem = folder.string() + ": no checkpoint is good (the newest: " + found.damage.front() + ")";
        code = ErrorCode::data;
      }
    } catch (const Error& error) {  // on all ranks alike
      problem = error.what(), code = error.code();
    }
    if (!problem.empty()) throw Refusal{static_cast<int>(code), ranks_.rank() == 0 ? one_line(problem) : ""};
    checkpoint_ = found.folder, manifest_ = found.manifest, damage_ = found.damage;
  }

  // The run's job, as it must be to evaluate: the checkpoint's own shape, the mesh of the ranks that are here.
  void adapt_job() {
    v1::Job& job = file_.job;
    job.mutable_model()->set_from(checkpoint_.string());
    // The run keeps the tokenizer that it began with.
    if (const fs::path own = options_.run / "tokenizer.json";
        job.data().tokenizer() == v1::Data::BPE && fs::exists(own))
      job.mutable_data()->set_tokenizer_file(own.string());
    const bool names_mesh =
        std::ranges::any_of(options_.overrides, [](const std::string& text) { return text.starts_with("mesh."); });
    const v1::Mesh& of_run = job.mesh();
    if (!names_mesh && of_run.dp() * of_run.cp() * of_run.tp() != ranks_.size()) {
      v1::Mesh mesh;
      mesh.set_cp(ranks_.size());
      *job.mutable_mesh() = mesh;
    }
    for (const std::string& assignment : options_.overrides) override_field(file_, assignment);
    if (!options_.files.empty() && !options_.markov) {
      v1::Data& data = *job.mutable_data();
      data.mutable_files()->Assign(options_.files.begin(), options_.files.end());
      data.clear_held_out_files();
      data.clear_held_out_fraction();
      // What tells how to read the training data for training.
      data.clear_circular();
      data.clear_reverse_complement();
      if (std::ranges::none_of(options_.files,
                               [](const std::string& name) { return file_kind(name) == FileKind::json_lines; }))
        data.clear_json_field();
      file_.given_at["data.files"] = "--files";
    } else if (options_.files.empty() && job.data().held_out_files_size() == 0 &&
               !(job.data().held_out_fraction() > 0)) {
      throw Error(ErrorCode::config, options_.run.string() +
                                         ": its job holds nothing out (data.held_out_fraction, data.held_out_files); "
                                         "name the data with --files");
    }
    v1::Train& train = *job.mutable_train();
    train.clear_evaluate_every();  // of training, as is the batch
    Index rows = 0;
    if (!__builtin_mul_overflow(job.mesh().dp(), train.micro_batch(), &rows) && rows > 0) train.set_batch(rows);
  }

  // Other data under the names of the run's would not be split where it was.
  std::string require_same_data(Corpus& training) const {
    const std::string advice = "; --files with --no-markov evaluates any data";
    const std::string tokens = std::to_string(training.size()), digest = digest_of(training);
    if (const std::string of_run = recorded("data.files: tokens in all"); !of_run.empty() && of_run != tokens)
      throw Error(ErrorCode::config, "data.files: " + tokens + " tokens to train on, but " + checkpoint_.string() +
                                         " was trained on " + of_run + advice);
    if (const std::string of_run = recorded("data.files: content"); !of_run.empty() && of_run != digest)
      throw Error(ErrorCode::config,
                  "data.files: not the content that " + checkpoint_.string() + " was trained on" + advice);
    return digest;
  }

  std::string recorded(const std::string& field) const {  // empty: this checkpoint does not tell it
    const auto value = manifest_.must_match().find(field);
    return value == manifest_.must_match().end() ? "" : value->second;
  }

  void require_same_tokenizer(const std::string& file) const {
    const std::string of_run = recorded("data.tokenizer_file: digest");
    if (!of_run.empty() && of_run != digest_of_file(file).xxh3_128)
      throw Error(ErrorCode::config, "data.tokenizer_file: " + file + " is not the tokenizer that " +
                                         checkpoint_.string() + " was trained with");
  }

  void load_weights_of_checkpoint() {
    together(ranks_, [&] {
      adapt_job();
      watchdog_.set_timeout(file_.job.train().timeout_seconds());
      job_ = resolve(file_, ranks_.size());
      const v1::Data& data = job_.fields.data();
      if (data.tokenizer() == v1::Data::BPE) require_same_tokenizer(data.tokenizer_file());
    });
    const v1::Mesh& mesh = job_.fields.mesh();
    mesh_.emplace(ranks_,
                  Degrees{static_cast<int>(mesh.dp()), static_cast<int>(mesh.cp()), static_cast<int>(mesh.tp())});
    model_ = model_of(job_, mesh_->along(axes::cp));
    together(ranks_, [&] {
      store_.emplace(*model_, pool_, WholeStore::Holds::weights);
      load_checkpoint(checkpoint_, manifest_, {store_->parameters(), store_->weights(), {}, {}, {}});
    });
  }

  LossSums evaluate(Evaluation& evaluation) {
    together(ranks_, [&] {
      const Index pass = evaluation.pass_bytes(*model_), weights = 4 * store_->size();
      if (weights + pass > available_bytes_)
        throw Error(ErrorCode::memory, "memory: " + human_bytes(weights) + " of weights + " + human_bytes(pass) +
                                           " for a pass = " + human_bytes(weights + pass) + " a rank, but it has " +
                                           human_bytes(available_bytes_) +
                                           "; raise mesh.cp, or lower train.micro_batch");
    });
    Arena saved(Arena::Kind::stack, ledger_), scratch(Arena::Kind::pool, ledger_);
    Stream stream;
    const auto start = std::chrono::steady_clock::now();
    const LossSums sums = *evaluation.run({*model_, *store_, saved, scratch, stream}, [] { return false; });
    seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return sums;
  }

  void tell(const Evaluation& evaluation, const LossSums& sums, const MarkovScore& markov) const {
    const v1::Data& data = job_.fields.data();
    const v1::Mesh& mesh = job_.fields.mesh();
    const EvaluationRecord record = evaluation.record(sums, manifest_.step(), manifest_.tokens(), seconds_);
    PLASMID_CHECK(markov.nats.empty() || markov.labels == sums.tokens)
        << "Markov models scored " << markov.labels << " tokens, the network " << sums.tokens;
    std::vector<double> bits;  // by order
    for (const double nats : markov.nats) bits.push_back(nats / std::numbers::ln2);
    if (options_.json) {
      auto object = nlohmann::ordered_json::parse(to_json(record));
      object["run"] = options_.run.string();
      object["symbol"] = symbol_of(data);
      object["windows"] = evaluation.windows();
      object["mesh"] = {{"dp", mesh.dp()}, {"cp", mesh.cp()}, {"tp", mesh.tp()}};
      if (!bits.empty()) object["markov"] = {{"best_order", markov.best()}, {"bits", bits}};
      std::printf("%s\n", object.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace).c_str());
      return;
    }
    for (const std::string& line : damage_) std::printf("checkpoint is damaged: %s\n", line.c_str());
    std::printf("%s, trained on %lld tokens\n", checkpoint_.c_str(), as_long(manifest_.tokens()));
    std::printf("%s, %lld windows of %lld, mesh dp %lld x cp %lld x tp %lld\n", describe(record, data).c_str(),
                as_long(evaluation.windows()), as_long(data.sequence_length()), as_long(mesh.dp()), as_long(mesh.cp()),
                as_long(mesh.tp()));
    if (bits.empty()) return;
    std::printf("%s\nbits/%s by order, from 0:", describe(markov, data).c_str(), symbol_of(data));
    for (const double value : bits) std::printf(" %.4f", value);
    std::printf("\n");
  }

  Communicator& ranks_;
  const EvaluateOptions& options_;
  JobFile file_;
  Job job_;
  fs::path checkpoint_;
  v1::CheckpointManifest manifest_;
  std::vector<std::string> damage_;
  Index available_bytes_ = 0;  // of this rank
  Ledger ledger_;
  Arena pool_{Arena::Kind::pool, ledger_};
  std::optional<ProcessMesh> mesh_;
  std::unique_ptr<LanguageModel> model_;
  std::optional<WholeStore> store_;
  double seconds_ = 0;
  Watchdog watchdog_;
};

}  // namespace

int evaluate_run(World& world, const EvaluateOptions& options) {
  std::optional<Evaluator> evaluator;
  try {
    return evaluator.emplace(world, options).run();
  } catch (const Refusal& refusal) {
    if (!refusal.line.empty()) std::fprintf(stderr, "plasmid: %s\n", refusal.line.c_str());
    return refusal.exit_status;
  } catch (const std::exception& failure) {  // on this rank alone: the others wait for it
    const Refusal refusal = describe(failure);
    if (evaluator) evaluator->leave_watch(refusal);
    std::fprintf(stderr, "plasmid: %s\n", refusal.line.c_str());
    if (world.ranks().size() > 1) world.abort(refusal.exit_status);
    return refusal.exit_status;
  }
}

}  // namespace plasmid
