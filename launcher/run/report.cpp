#include "launcher/run/report.hpp"

#include <spdlog/logger.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <numbers>
#include <utility>

#include "launcher/job/data_fields.hpp"
#include "launcher/run/metrics_rows.hpp"
#include "runtime/base/error.hpp"

namespace plasmid {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kBetweenLines{2};
constexpr std::chrono::milliseconds kBetweenRedraws{100};

std::shared_ptr<spdlog::logger> make_logger(const std::filesystem::path& path) try {
  auto sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(path.string());
  auto logger = std::make_shared<spdlog::logger>("plasmid", std::move(sink));
  logger->set_pattern("%Y-%m-%d %H:%M:%S %v");
  logger->flush_on(spdlog::level::info);
  return logger;
} catch (const spdlog::spdlog_ex& failure) {
  throw Error(ErrorCode::cannot_create, path.string() + ": " + failure.what());
}

std::string fixed(double value, int decimals) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", decimals, value);
  return text;
}

}  // namespace

std::string human_count(double value) {
  if (!(value >= 1000)) return fixed(value, value < 10 ? 1 : 0);
  const char* unit = "kMGTPE";
  for (value /= 1000; value >= 1000 && unit[1]; value /= 1000) ++unit;
  return fixed(value, value < 10 ? 2 : value < 100 ? 1 : 0) + *unit;
}

std::string human_seconds(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "?";
  const auto whole = static_cast<long long>(std::min(std::ceil(seconds), 1e15));
  if (whole < 60) return std::to_string(whole) + "s";
  char text[64];
  if (whole < 3600)
    std::snprintf(text, sizeof text, "%lldm%02llds", whole / 60, whole % 60);
  else
    std::snprintf(text, sizeof text, "%lldh%02lldm", whole / 3600, whole / 60 % 60);
  return text;
}

bool output_is_terminal() {
  if (!::isatty(STDOUT_FILENO)) return false;
  if (!std::getenv("OMPI_COMM_WORLD_RANK")) return true;
  std::error_code problem;
  const std::string output =
      std::filesystem::read_symlink("/proc/" + std::to_string(::getppid()) + "/fd/1", problem).string();
  return output.starts_with("/dev/pts/") || output.starts_with("/dev/tty");
}

struct Report::Impl {
  std::shared_ptr<spdlog::logger> log;
  MetricsRows metrics;
  Index steps;
  const char* symbol;  // what a token is
  bool terminal;
  bool line_open = false;  // a progress line waits to be written over
  Clock::time_point last_shown{};
  double seconds_a_step = 0;
  int steps_here = 0;  // of this part of the run

  void print(const std::string& line) {
    std::printf("%s%s\n", line_open ? "\r\x1b[K" : "", line.c_str());
    std::fflush(stdout);
    line_open = false;
  }

  std::string progress(const StepRecord& record) const {
    const auto left = static_cast<double>(steps - record.step);
    return "step " + std::to_string(record.step) + "/" + std::to_string(steps) + "  loss " + fixed(record.loss, 4) +
           " nats  " + fixed(record.loss / std::numbers::ln2, 4) + " bits/" + symbol + "  " +
           human_count(record.tokens_per_second) + " tokens/s  ETA " + human_seconds(left * seconds_a_step);
  }
};

Report::Report(const RunDirectory& run, const v1::Job& job, bool terminal)
    : impl_(new Impl{.log = make_logger(run.log()),
                     .metrics = MetricsRows(run.metrics()),
                     .steps = job.train().steps(),
                     .symbol = symbol_of(job.data()),
                     .terminal = terminal}) {
  // The logger reports what it cannot write here, and goes on.
  impl_->log->set_error_handler([this, told = false, path = run.log().string()](const std::string& problem) mutable {
    if (!std::exchange(told, true)) impl_->print(path + ": lines are missing: " + problem);
  });
}
Report::~Report() {
  if (impl_->line_open) std::printf("\n");
}

void Report::say(const std::string& line) {
  impl_->print(line);
  note(line);
}

void Report::note(const std::string& line) { impl_->log->info("{}", line); }

void Report::row(const std::string& row) { tell(impl_->metrics.append(row)); }

void Report::tell(const std::string& news) {
  if (!news.empty()) say(news);
}

void Report::evaluation(const EvaluationRecord& record, const std::string& line) {
  row(to_json(record));
  say(line);
}

void Report::sync() { tell(impl_->metrics.sync()); }

std::string Report::unwritten() {
  sync();
  const Index kept = impl_->metrics.kept();
  if (kept == 0) return "";
  return std::to_string(kept) + (kept == 1 ? " row" : " rows") + " could not be written: " + impl_->metrics.problem();
}

void Report::step(const StepRecord& record) {
  row(to_json(record));
  // The first step warms caches and page tables up: it starts the average and is soon forgotten.
  const double weight = ++impl_->steps_here <= 2 ? 1 : 0.1;
  impl_->seconds_a_step += weight * (record.step_seconds - impl_->seconds_a_step);
  const auto now = Clock::now();
  const bool last = record.step == impl_->steps, first = impl_->steps_here == 1;
  const bool due = now - impl_->last_shown >= (impl_->terminal ? Clock::duration(kBetweenRedraws) : kBetweenLines);
  if (!(first || last || due)) return;
  impl_->last_shown = now;
  const std::string line = impl_->progress(record);
  if (impl_->terminal && !last) {
    std::printf("\r%s\x1b[K", line.c_str());
    std::fflush(stdout);
    impl_->line_open = true;
  } else {
    impl_->print(line);
  }
  note(line);
}

}  // namespace plasmid
