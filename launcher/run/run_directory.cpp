#include "launcher/run/run_directory.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "launcher/job/job.hpp"
#include "launcher/run/exit_record.hpp"
#include "runtime/base/error.hpp"
#include "runtime/base/quote.hpp"
#include "runtime/io/file.hpp"

namespace plasmid {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kJob = "job.textproto";
constexpr const char* kTokenizer = "tokenizer.json";

// The tokenizer of a job, if it has one, for exports: its own file may move.
void keep_tokenizer(const v1::Data& data, const fs::path& to) {
  if (data.tokenizer() != v1::Data::BPE) return;
  const MappedFile file(data.tokenizer_file());
  AtomicFile copy(to);
  copy.write(file.bytes());
  copy.commit();
}

[[noreturn]] void occupied(const fs::path& path, const std::string& why) {
  throw Error(ErrorCode::cannot_create, "run_directory: " + path.string() + " " + why);
}

// The kind of what stands at `place`; a place that cannot be reached is refused in the name of `path`.
fs::file_type kind_of(const fs::path& path, const fs::path& place) {
  std::error_code problem;
  const fs::file_status status = fs::status(place, problem);
  if (status.type() == fs::file_type::none)
    occupied(path, "cannot be reached: " + place.string() + ": " + problem.message());
  return status.type();
}

void require_writable(const fs::path& path, const fs::path& folder, const char* what) {
  if (::access(folder.c_str(), W_OK | X_OK) != 0)
    occupied(path, std::string(what) + ": " + folder.string() + ": " + std::strerror(errno));
}

// A folder that is not there yet can be made only below one that is.
void require_folder_above(const fs::path& path) {
  std::error_code problem;
  fs::path above = fs::absolute(path, problem).parent_path();
  if (problem) occupied(path, "cannot be reached: " + problem.message());
  fs::file_type kind = kind_of(path, above);
  for (; above.has_relative_path() && kind == fs::file_type::not_found; kind = kind_of(path, above))
    above = above.parent_path();
  if (kind != fs::file_type::directory) occupied(path, "cannot be made: " + above.string() + " is not a directory");
  require_writable(path, above, "cannot be made");
}

// A start that was ended by force may have left these, and no run yet.
bool is_blank(const fs::path& path) {
  std::error_code problem;
  fs::directory_iterator entry(path, problem);
  bool blank = true, tokenizer = false, lock = false;
  for (; !problem && entry != fs::directory_iterator(); entry.increment(problem)) {
    const std::string name = entry->path().filename().string();
    std::error_code ignored;
    lock = lock || name == ".lock";
    tokenizer = tokenizer || name == kTokenizer;
    blank = blank && (name == ".lock" || (name.starts_with(".plasmid-") && name.ends_with(".tmp")) ||
                      name == kTokenizer || (name == "checkpoints" && fs::is_empty(entry->path(), ignored)));
  }
  if (problem) occupied(path, "cannot be read: " + problem.message());
  return blank && (lock || !tokenizer);  // a tokenizer alone is the user's
}

// Of one line: the step it tells, or nothing where it is torn.
std::optional<Index> step_of(const std::string& line, const std::string& place) {
  const json row = json::parse(line, nullptr, false);
  if (!row.is_object()) return std::nullopt;
  const auto step = row.find("step");
  if (step == row.end()) throw Error(ErrorCode::data, place + ": the row has no step");
  if (!step->is_number_integer() || (step->is_number_unsigned() && step->get<std::uint64_t>() > INT64_MAX))
    throw Error(ErrorCode::data, place + ": step is " +
                                     quote(step->dump(-1, ' ', false, json::error_handler_t::replace)) +
                                     ", not a whole number");
  return step->get<Index>();
}

}  // namespace

bool is_run(const fs::path& path) noexcept {
  std::error_code ignored;
  return !path.empty() && fs::is_regular_file(path / kJob, ignored);
}

bool holds_run(const v1::Job& job) {
  const fs::path path = job.run_directory();
  const fs::file_type kind = kind_of(path, path);
  if (kind == fs::file_type::not_found) {
    require_folder_above(path);
    return false;
  }
  if (kind != fs::file_type::directory) occupied(path, "is not a directory");
  require_writable(path, path, "cannot be written");
  if (is_blank(path)) return false;
  if (kind_of(path, path / kJob) == fs::file_type::not_found) occupied(path, "is not empty and holds no run");
  if (job.resume() == v1::Job::NEVER) occupied(path, "holds a run, and resume is NEVER");
  return true;
}

KeptRows rows_until(const fs::path& metrics, Index last_step) {
  KeptRows kept;
  std::error_code problem;
  if (!fs::exists(metrics, problem) && !problem) return kept;
  const InputFile file(metrics);
  std::string text(static_cast<std::size_t>(file.size()), '\0');
  text.resize(file.read_at(0, std::as_writable_bytes(std::span(text))));
  Index number = 0, torn = 0;
  for (std::size_t begin = 0, end = 0; begin < text.size(); begin = end) {
    ++number;
    end = std::min(text.find('\n', begin), text.size() - 1) + 1;
    const std::string line = text.substr(begin, end - begin), place = metrics.string() + ":" + std::to_string(number);
    const std::optional<Index> step = step_of(line, place);
    if (!step && torn == 0) torn = number;
    if (step && *step <= last_step) {
      if (torn > 0) throw Error(ErrorCode::data, metrics.string() + ":" + std::to_string(torn) + ": not a row of JSON");
      kept.text += line.ends_with('\n') ? line : line + "\n";
    }
  }
  kept.all = kept.text == text;
  return kept;
}

RunDirectory::RunDirectory(const v1::Job& resolved, std::optional<RunLock>& lock) : path_(resolved.run_directory()) {
  std::error_code problem;
  const bool was_there = fs::exists(path_, problem);
  fs::create_directories(path_, problem);
  if (problem) occupied(path_, "cannot be made: " + problem.message());
  const bool had_lock = lock.has_value();
  if (!had_lock) {
    lock.emplace(path_);
    if (is_run(path_)) occupied(path_, "holds a run that another process has begun meanwhile");
  }
  try {
    fs::create_directory(path_ / "checkpoints");
    keep_tokenizer(resolved.data(), path_ / kTokenizer);
    write_file_atomically(path_ / kJob, to_text(resolved));
    remove_exit(path_);
  } catch (const std::exception& failure) {
    fs::remove(path_ / "checkpoints", problem);  // only an empty one goes
    if (!had_lock) {
      fs::remove(path_ / kTokenizer, problem);
      fs::remove(path_ / ".lock", problem);
      lock.reset();
    }
    if (!was_there) fs::remove(path_, problem);
    occupied(path_, std::string("cannot be written: ") + failure.what());
  }
}

bool RunDirectory::has_evaluation(Index step) const {
  std::ifstream rows(metrics(), std::ios::binary);
  for (std::string row; std::getline(rows, row);) {
    const auto parsed = nlohmann::json::parse(row, nullptr, false);
    if (parsed.is_object() && parsed.contains("held_out_loss") && parsed.value("step", Index{0}) == step) return true;
  }
  return false;
}

void RunDirectory::keep(const KeptRows& rows) const {
  if (!rows.all) write_file_atomically(metrics(), rows.text);
}

}  // namespace plasmid
