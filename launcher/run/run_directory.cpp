#include "launcher/run/run_directory.hpp"

#include <fstream>
#include <nlohmann/json.hpp>

#include "launcher/job/job.hpp"
#include "runtime/base/error.hpp"
#include "runtime/io/file.hpp"

namespace plasmid {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void occupied(const fs::path& path, const std::string& why) {
  throw Error(ErrorCode::cannot_create, "run_directory: " + path.string() + " " + why);
}

// A folder that is not there yet can be made only below one that is.
void require_folder_above(const fs::path& path) {
  std::error_code ignored;
  fs::path above = fs::absolute(path).parent_path();
  while (above.has_relative_path() && !fs::exists(above, ignored)) above = above.parent_path();
  if (!fs::is_directory(above, ignored)) occupied(path, "cannot be made: " + above.string() + " is not a directory");
}

}  // namespace

bool holds_run(const v1::Job& job) {
  const fs::path path = job.run_directory();
  std::error_code problem;
  const fs::file_status status = fs::status(path, problem);
  if (!fs::exists(status)) {
    require_folder_above(path);
    return false;
  }
  if (!fs::is_directory(status)) occupied(path, "is not a directory");
  const bool empty = fs::is_empty(path, problem);
  if (problem) occupied(path, "cannot be read: " + problem.message());
  if (empty) return false;
  if (!fs::exists(path / "job.textproto")) occupied(path, "is not empty and holds no run");
  if (job.resume() == v1::Job::NEVER) occupied(path, "holds a run, and resume is NEVER");
  return true;
}

RunDirectory::RunDirectory(const v1::Job& resolved) : path_(resolved.run_directory()) {
  const bool was_there = fs::exists(path_);
  std::error_code problem;
  fs::create_directories(path_, problem);
  if (problem) occupied(path_, "cannot be made: " + problem.message());
  try {
    fs::create_directory(path_ / "checkpoints");
    write_file_atomically(path_ / "job.textproto", to_text(resolved));
    fs::remove(path_ / "exit.json");  // of the part before: this one has not ended
  } catch (const std::exception& failure) {
    fs::remove(path_ / "checkpoints", problem);  // only an empty one goes
    if (!was_there) fs::remove(path_, problem);
    occupied(path_, std::string("cannot be written: ") + failure.what());
  }
}

void RunDirectory::cut_metrics(Index last_step) const {
  std::ifstream rows(metrics(), std::ios::binary);
  if (!rows) return;
  AtomicFile kept(metrics());
  bool changed = false;
  for (std::string row; std::getline(rows, row);) {
    const auto parsed = nlohmann::json::parse(row, nullptr, false);
    const bool keeps = parsed.is_object() && parsed.value("step", Index{0}) <= last_step;
    keeps ? kept.write(row + "\n") : void(changed = true);
  }
  if (changed) kept.commit();
}

bool RunDirectory::has_evaluation(Index step) const {
  std::ifstream rows(metrics(), std::ios::binary);
  for (std::string row; std::getline(rows, row);) {
    const auto parsed = nlohmann::json::parse(row, nullptr, false);
    if (parsed.is_object() && parsed.contains("held_out_loss") && parsed.value("step", Index{0}) == step) return true;
  }
  return false;
}

void RunDirectory::write_exit(int code, const std::string& reason, bool retry) const {
  const nlohmann::ordered_json exit = {{"code", code}, {"reason", reason}, {"retry", retry}};
  write_file_atomically(path_ / "exit.json",
                        exit.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
}

}  // namespace plasmid
