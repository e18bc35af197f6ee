#include "launcher/run/export_target.hpp"

#include <unistd.h>

#include <string>

#include "runtime/base/error.hpp"
#include "runtime/io/file.hpp"

namespace plasmid {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void refuse(const fs::path& to, const std::string& why) {
  throw Error(ErrorCode::cannot_create, to.string() + ": " + why);
}

// "." and "a/../b/" by their own names.
fs::path resolved(const fs::path& to) {
  std::error_code problem;
  fs::path path = fs::weakly_canonical(fs::absolute(to, problem), problem);
  if (problem) refuse(to, problem.message());
  if (!path.has_filename()) path = path.parent_path();
  return path;
}

}  // namespace

void require_empty(const fs::path& to) {
  std::error_code problem;
  const fs::file_status status = fs::status(to, problem);
  if (status.type() == fs::file_type::none) refuse(to, "cannot be reached: " + problem.message());
  if (!fs::exists(status)) return;
  bool empty = fs::is_directory(status);
  fs::directory_iterator entry = empty ? fs::directory_iterator(to, problem) : fs::directory_iterator();
  for (; !problem && entry != fs::directory_iterator(); entry.increment(problem))
    empty = empty && entry->path().filename() == "lost+found";
  if (problem) refuse(to, "cannot be read: " + problem.message());
  if (!empty) refuse(to, "is there already; name a folder that is not there, or empty");
}

ExportTarget::ExportTarget(const fs::path& to) : to_(resolved(to)) {
  require_empty(to_);
  std::error_code problem;
  inside_ = fs::exists(to_, problem);
  const std::string name = std::string(".") + (inside_ ? "plasmid" : to_.filename().string()) + "." +
                           std::to_string(::getpid()) + ".partial";
  hidden_ = (inside_ ? to_ : to_.parent_path()) / name;
  fs::create_directories(hidden_.parent_path(), problem);
  if (!problem) fs::create_directory(hidden_, problem);
  if (problem) refuse(to, problem.message());
}

ExportTarget::~ExportTarget() {
  std::error_code ignored;
  fs::remove_all(hidden_, ignored);
  for (const fs::path& path : moved_) fs::remove(path, ignored);
}

fs::path ExportTarget::add(const std::string& name) {
  names_.push_back(name);
  return hidden_ / name;
}

void ExportTarget::commit() {
  try {
    sync_folder(hidden_);
    if (!inside_) {
      fs::rename(hidden_, to_);
      sync_folder(to_.parent_path());
      return;
    }
    for (const std::string& name : names_) {
      moved_.push_back(to_ / name);
      fs::rename(hidden_ / name, moved_.back());
    }
    fs::remove(hidden_);
    sync_folder(to_);
  } catch (const fs::filesystem_error& failure) {
    throw Error(ErrorCode::io, to_.string() + ": " + failure.code().message());
  }
  moved_.clear();
}

}  // namespace plasmid
