#include "launcher/trainer/session.hpp"

#include <chrono>
#include <cstdio>
#include <optional>

#include "launcher/bootstrap/signals.hpp"
#include "launcher/bootstrap/team.hpp"
#include "launcher/bootstrap/together.hpp"
#include "launcher/run/checkpoints.hpp"
#include "launcher/run/exit_record.hpp"
#include "launcher/run/report.hpp"
#include "launcher/trainer/job_data.hpp"
#include "launcher/trainer/same_inputs.hpp"
#include "launcher/trainer/train_loop.hpp"
#include "launcher/trainer/trainer.hpp"
#include "launcher/trainer/yardstick.hpp"
#include "launcher/watchdog/watchdog.hpp"
#include "runtime/base/error.hpp"
#include "runtime/data/corpus_digest.hpp"

namespace plasmid {
namespace {

std::string counted(Index count, const std::string& what) {
  return std::to_string(count) + " " + what + (count == 1 ? "" : "s");
}

class Session {
 public:
  Session(World& world, const TrainOptions& options) : world_(world), ranks_(world.ranks()), options_(options) {}

  int run() {
    catch_stop_signals();  // also one that comes while data is read ends the run after a step, with a checkpoint
    watchdog_.emplace(world_);
    if (!prepare()) return 0;
    corpora_ = open_data(ranks_, job_.fields.data());
    mesh_.emplace(ranks_, degrees());
    FieldValues read;
    together(ranks_, [&] {
      trainer_.emplace(job_, *mesh_, *corpora_.training, machine_bytes() / team_.ranks_here);
      data_ = inputs_to_match(job_, *corpora_.training, trainer_->loader().windows());
      checkpoints_->require_match(data_);
      read = everything_read();
    });
    require_same_on_all_ranks(ranks_, read);
    together(ranks_,
             [&] { checkpoints_->step() > 0 ? checkpoints_->load(trainer_->state()) : trainer_->initialize(); });
    open_directory();
    if (corpora_.held_out) evaluation_.emplace(job_.fields, *mesh_, *corpora_.held_out);
    summarise();
    return finish(run_steps({.job = job_.fields,
                             .trainer = *trainer_,
                             .ranks = ranks_,
                             .report = report_ ? &*report_ : nullptr,
                             .first_step = checkpoints_->step() + 1,
                             .save = [this](Index step) { save(step); },
                             .evaluation = evaluation_ ? &*evaluation_ : nullptr,
                             .begins = [this](Index step) { watchdog_->begin_step(step); },
                             .evaluates_first = lacks_evaluation()}));
  }

  void leave_watch(const Refusal& refusal) {  // before this rank ends the others
    if (watchdog_) watchdog_->leave(refusal.exit_status);
  }

  // For exit.json when the run ends in an exception, by the rank that knows why; the first word is the cause.
  void record_failure(const Refusal& refusal) noexcept {
    if (!owns_ || refusal.line.empty()) return;
    try {
      if (report_) report_->note(refusal.line);
      write_first_exit(run_, refusal.exit_status, refusal.line, false);
    } catch (const std::exception&) {
      // The disk that failed the run may refuse this too; the line on standard error stands.
    }
  }

 private:
  bool speaks() const { return ranks_.rank() == 0; }

  bool prepare() {  // false: nothing to do
    bool continues = false;
    JobFile file;
    together(ranks_, [&] {
      file = read_job(options_.job, options_.overrides);
      watchdog_->set_timeout(file.job.train().timeout_seconds());
    });
    claim(file.job.run_directory());
    together(ranks_, [&] {
      job_ = resolve(file, ranks_.size());
      if (speaks()) continues = holds_run(job_.fields);
    });
    continues_ = ranks_.agree_max(continues);
    checkpoints_.emplace(job_, ranks_, continues_);
    watchdog_->went_on_from(checkpoints_->step());
    together(ranks_, [&] { checkpoints_->require_match(fields_to_match(job_)); });
    const Index reached = checkpoints_->step(), wanted = job_.fields.train().steps();
    if (reached >= wanted) {
      const std::string line = job_.fields.run_directory() + " has reached step " + std::to_string(reached) + " of " +
                               std::to_string(wanted) + ": nothing to do";
      together(ranks_, [&] {
        if (speaks()) write_exit(run_, 0, line, false);
      });
      if (!speaks()) return false;
      for (const std::string& news : checkpoints_->news()) std::printf("%s\n", news.c_str());
      std::printf("%s\n", line.c_str());
      return false;
    }
    together(ranks_, [&] { team_ = form_team(ranks_); });
    return true;
  }

  FieldValues everything_read() {
    FieldValues values = fields_to_match(job_);
    values.insert(values.end(), data_.begin(), data_.end());
    if (corpora_.held_out) values.emplace_back("held-out data: content", digest_of(*corpora_.held_out));
    return values;
  }

  // Whether the checkpoint that this run goes on from was due to be evaluated, and a signal came first.
  bool lacks_evaluation() {
    const Index step = checkpoints_->step();
    if (!evaluation_ || step == 0 || !evaluation_due(job_.fields.train(), step)) return false;
    return ranks_.agree_max(directory_ && !directory_->has_evaluation(step)) != 0;
  }

  // A directory that holds a run is this job's alone from here on, and exit.json tells how the job ends.
  void claim(const std::string& run) {
    run_ = run;
    together(ranks_, [&] {
      if (!speaks() || !is_run(run_)) return;
      lock_.emplace(run_);
      remove_exit(run_);
    });
    own(ranks_.agree_max(lock_.has_value()));
  }

  void own(bool owns) {
    owns_ = owns;
    if (!owns) return;
    watchdog_->set_record([run = run_, report = report_ ? &*report_ : nullptr](const Ending& ending) {
      const bool first = write_first_exit(run, ending.exit_status, ending.reason, ending.retry);
      if (report) report->note(ending.reason);
      return first;
    });
  }

  void open_directory() {
    together(ranks_, [&] {
      if (!speaks()) return;
      const KeptRows rows = continues_ ? rows_until(run_ / "metrics.jsonl", checkpoints_->step()) : KeptRows{};
      directory_.emplace(job_.fields, lock_);
      directory_->keep(rows);
    });
    own(true);
    together(ranks_, [&] {
      if (speaks()) report_.emplace(*directory_, job_.fields, output_is_terminal());
    });
    own(true);  // with a log, too
  }

  Degrees degrees() const {
    const v1::Mesh& mesh = job_.fields.mesh();
    return {static_cast<int>(mesh.dp()), static_cast<int>(mesh.cp()), static_cast<int>(mesh.tp())};
  }

  std::string bytes_a_token() const {  // where they are not one
    if (job_.fields.data().tokenizer() != v1::Data::BPE) return "";
    Corpus& corpus = *corpora_.training;
    char text[48];
    std::snprintf(text, sizeof text, ", %.3f bytes each,",
                  static_cast<double>(corpus.bytes(0, corpus.size())) / static_cast<double>(corpus.size()));
    return text;
  }

  std::string padding_share() const {  // of all windows of an epoch
    const Loader& loader = trainer_->loader();
    const double room =
        static_cast<double>(loader.windows()) * static_cast<double>(job_.fields.data().sequence_length());
    char text[32];
    std::snprintf(text, sizeof text, "%.2f %% padding", 100 * static_cast<double>(loader.padding()) / room);
    return text;
  }

  void summarise() {
    if (!report_) return;
    const ModelShape& shape = job_.shape;
    const Degrees mesh = degrees();
    const v1::Train& train = job_.fields.train();
    report_->say("plasmid " PLASMID_VERSION ": " + counted(ranks_.size(), "rank") + " on " +
                 counted(team_.hosts, "host") + ", mesh dp " + std::to_string(mesh.dp) + " x cp " +
                 std::to_string(mesh.cp) + " x tp " + std::to_string(mesh.tp) + ", " +
                 counted(team_.threads, "thread") + " a rank, " + name_of(team_.simd));
    report_->say("model: " + v1::Model::Family_Name(job_.fields.model().family()) + ", " +
                 counted(shape.layers, "layer") + ", width " + std::to_string(shape.width) + ", " +
                 counted(shape.heads, "head") + ", " + human_count(static_cast<double>(trainer_->parameters())) +
                 " parameters");
    const Corpus& corpus = *corpora_.training;
    report_->say("data: " + human_count(static_cast<double>(corpus.size())) + " tokens" + bytes_a_token() + " in " +
                 counted(corpus.records(), "record") + ", " + counted(trainer_->loader().windows(), "window") + " of " +
                 std::to_string(job_.fields.data().sequence_length()) + ", " + padding_share() + "; " +
                 counted(train.steps(), "step") + " of " + counted(train.batch(), "window"));
    for (const std::string& line : corpus.warnings()) report_->say("data: " + line);
    if (evaluation_) summarise_held_out();
    report_->say("memory: at most " + human_bytes(trainer_->step_bytes()) + " a rank; run directory " +
                 directory_->path().string());
    if (!lock_->warning().empty()) report_->say(lock_->warning());
    if (!watchdog_->warning().empty()) report_->say(watchdog_->warning());
    for (const std::string& line : checkpoints_->news()) report_->say(line);
    if (continues_)
      report_->say(checkpoints_->step() > 0 ? "going on from " + checkpoints_->path().string()
                                            : "this run has no checkpoint yet: from the start");
  }

  void summarise_held_out() {
    const Corpus& corpus = *corpora_.held_out;
    const Index every = job_.fields.train().evaluate_every();
    report_->say("held out: " + human_count(static_cast<double>(corpus.size())) + " tokens in " +
                 counted(corpus.records(), "record") + ", " + counted(evaluation_->windows(), "window") +
                 "; evaluated " + (every > 0 ? "every " + counted(every, "step") + " and " : "") + "at the end");
    for (const std::string& line : corpus.warnings()) report_->say("held out: " + line);
  }

  // Returns why the checkpoint is not in place, on all ranks; a full disk does not end a run.
  std::string save(Index step) {
    const auto start = std::chrono::steady_clock::now();
    if (report_) report_->sync();  // the rows up to a checkpoint are there when it is, where they can be written
    const std::string problem = checkpoints_->save(step, trainer_->state(), data_);
    if (problem.empty()) watchdog_->saved(step);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    char took[32];
    std::snprintf(took, sizeof took, "%.3f s", seconds.count());
    if (report_)
      report_->say(problem.empty() ? "checkpoint: " + checkpoints_->path().string() + " in " + took
                                   : one_line("checkpoint of step " + std::to_string(step) + " failed: " + problem) +
                                         "; the one before stays");
    return problem;
  }

  int finish(Outcome outcome) {
    if (outcome.sound && outcome.last_step > checkpoints_->step())
      if (const std::string problem = save(outcome.last_step); !problem.empty())
        outcome = {static_cast<int>(ErrorCode::io),
                   one_line("checkpoint of step " + std::to_string(outcome.last_step) + " failed: " + problem) +
                       "; the run can go on from step " + std::to_string(checkpoints_->step()),
                   false, checkpoints_->step()};
    require_rows(outcome);
    if (speaks()) watchdog_->leave();  // from here on, what exit.json says is decided
    together(ranks_, [&] {
      if (!speaks()) return;
      write_exit(run_, outcome.exit_status, outcome.reason, outcome.retry);
      outcome.exit_status == 0 ? report_->say(outcome.reason) : report_->note(outcome.reason);
    });
    watchdog_->leave();
    if (speaks() && outcome.exit_status == 0 && evaluation_) compare();
    if (speaks() && outcome.exit_status != 0) std::fprintf(stderr, "plasmid: %s\n", outcome.reason.c_str());
    return outcome.exit_status;
  }

  // What the held-out loss is worth. The run is complete: no other rank waits, and a failure changes nothing.
  void compare() try {
    trainer_.reset();  // its memory
    report_->say(is_quick(corpora_) ? describe(score_yardstick(corpora_), job_.fields.data())
                                    : "plasmid eval " + directory_->path().string() +
                                          " tells what Markov models make of the held-out data");
  } catch (const std::exception& failure) {
    report_->note(std::string("Markov models: ") + failure.what());
  }

  // A run whose rows are lost with the process has not ended well, though its checkpoint is in place.
  void require_rows(Outcome& outcome) {
    const std::string lost = report_ ? report_->unwritten() : "";
    if (!ranks_.agree_max(!lost.empty())) return;
    const bool well = outcome.exit_status == 0 || outcome.retry;
    outcome.reason += "; " + lost;
    if (well) outcome.exit_status = static_cast<int>(ErrorCode::io);
    outcome.retry = false;
  }

  World& world_;
  Communicator& ranks_;
  const TrainOptions& options_;
  Job job_;
  Team team_;
  JobData corpora_;
  std::optional<ProcessMesh> mesh_;
  std::optional<Trainer> trainer_;
  std::optional<Evaluation> evaluation_;
  std::optional<RunCheckpoints> checkpoints_;
  FieldValues data_;        // that checkpoints must match
  bool continues_ = false;  // the run directory held a run
  std::filesystem::path run_;
  bool owns_ = false;  // this job has the run directory to itself: the lock is rank 0's
  std::optional<RunLock> lock_;
  std::optional<RunDirectory> directory_;
  std::optional<Report> report_;
  std::optional<Watchdog> watchdog_;
};

}  // namespace

int train(World& world, const TrainOptions& options) {
  Session session(world, options);
  try {
    return session.run();
  } catch (const Refusal& refusal) {
    session.record_failure(refusal);
    if (!refusal.line.empty()) std::fprintf(stderr, "plasmid: %s\n", refusal.line.c_str());
    return refusal.exit_status;
  } catch (const std::exception& failure) {  // on this rank alone: the others wait for it
    Refusal refusal = describe(failure);
    if (world.ranks().size() > 1) refusal.line = "rank " + std::to_string(world.ranks().rank()) + ": " + refusal.line;
    session.leave_watch(refusal);
    session.record_failure(refusal);
    std::fprintf(stderr, "plasmid: %s\n", refusal.line.c_str());
    if (world.ranks().size() > 1) world.abort(refusal.exit_status);
    return refusal.exit_status;
  }
}

}  // namespace plasmid
