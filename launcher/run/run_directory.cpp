#include "launcher/run/run_directory.hpp"

#include <algorithm>
#include <charconv>
#include <map>
#include <nlohmann/json.hpp>

#include "launcher/job/job.hpp"
#include "runtime/base/error.hpp"
#include "runtime/io/file.hpp"
#include "runtime/io/safetensors.hpp"

namespace plasmid {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kStep = "step-";

Index newest_step(const fs::path& checkpoints) {  // 0: none
  Index newest = 0;
  std::error_code problem;
  for (const auto& entry : fs::directory_iterator(checkpoints, problem)) {
    const std::string name = entry.path().filename().string();
    Index step = 0;
    if (!name.starts_with(kStep)) continue;
    const auto parsed = std::from_chars(name.data() + kStep.size(), name.data() + name.size(), step);
    if (parsed.ec == std::errc{} && parsed.ptr == name.data() + name.size()) newest = std::max(newest, step);
  }
  return newest;
}

[[noreturn]] void occupied(const fs::path& path, const std::string& why) {
  throw Error(ErrorCode::cannot_create, "run_directory: " + path.string() + " " + why);
}

}  // namespace

bool run_is_finished(const v1::Job& job) {
  const fs::path path = job.run_directory();
  std::error_code problem;
  const fs::file_status status = fs::status(path, problem);
  if (!fs::exists(status)) return false;
  if (!fs::is_directory(status)) occupied(path, "is not a directory");
  const bool empty = fs::is_empty(path, problem);
  if (problem) occupied(path, "cannot be read: " + problem.message());
  if (empty) return false;
  if (!fs::exists(path / "job.textproto")) occupied(path, "is not empty and holds no run");
  if (job.resume() == v1::Job::NEVER) occupied(path, "holds a run, and resume is NEVER");
  const Index reached = newest_step(path / "checkpoints"), wanted = job.train().steps();
  if (reached >= wanted) return true;
  occupied(path, "holds a run that has saved step " + std::to_string(reached) + " of " + std::to_string(wanted) +
                     "; this version cannot continue it: choose another run_directory");
}

RunDirectory::RunDirectory(const v1::Job& resolved) : path_(resolved.run_directory()) {
  const bool was_there = fs::exists(path_);
  std::error_code problem;
  fs::create_directories(path_, problem);
  if (problem) occupied(path_, "cannot be made: " + problem.message());
  try {
    fs::create_directory(path_ / "checkpoints");
    write_file_atomically(path_ / "job.textproto", to_text(resolved));
  } catch (const std::exception& failure) {
    fs::remove_all(path_ / "checkpoints", problem);
    if (!was_there) fs::remove(path_, problem);
    occupied(path_, std::string("cannot be written: ") + failure.what());
  }
}

fs::path RunDirectory::save_weights(Index step, WholeStore& store, const ModelShape& shape) const {
  const fs::path folder = path_ / "checkpoints", whole = folder / (std::string(kStep) + std::to_string(step)),
                 temporary = folder / ".saving";
  std::error_code problem;
  fs::remove_all(temporary, problem);
  fs::create_directory(temporary, problem);
  if (problem) throw Error(ErrorCode::cannot_create, temporary.string() + ": " + problem.message());
  std::map<std::string, ConstView> tensors;
  for (const ParameterPtr& parameter : store.parameters()) tensors.emplace(parameter->name, store.weight(*parameter));
  write_safetensors(temporary / "model.safetensors", tensors, {{"format", "pt"}});
  write_file_atomically(temporary / "config.json", write_config(shape));
  sync_folder(temporary);
  fs::rename(temporary, whole, problem);
  if (problem) throw Error(ErrorCode::io, whole.string() + ": " + problem.message());
  sync_folder(folder);
  return whole;
}

void RunDirectory::write_exit(int code, const std::string& reason, bool retry) const {
  const nlohmann::ordered_json exit = {{"code", code}, {"reason", reason}, {"retry", retry}};
  write_file_atomically(path_ / "exit.json",
                        exit.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
}

}  // namespace plasmid
