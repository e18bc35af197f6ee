#pragma once
#include <filesystem>
#include <optional>
#include <string>

#include "launcher/job/job_file.hpp"
#include "launcher/run/run_lock.hpp"
#include "runtime/base/index.hpp"

namespace plasmid {

// Whether the folder is there and holds a run; false where that cannot be told.
bool is_run(const std::filesystem::path&) noexcept;

// Looks, and changes nothing: whether the directory holds a run to go on with. Throws Error{cannot_create} when it
// holds anything else, or a run under resume: NEVER, or cannot be reached, or lies where nothing can be written.
bool holds_run(const v1::Job&);

// The rows of metrics.jsonl that a run which goes on from `last_step` keeps; the others are of work that is done again,
// or were torn by a crash. Throws Error{data} naming file and line for a row that no run has written: an object without
// a whole number for its step, or anything but an object before a row that is kept.
struct KeptRows {
  std::string text;
  bool all = true;  // the file is this text
};
KeptRows rows_until(const std::filesystem::path& metrics, Index last_step);

// The folder of one run, made by one rank or found there:
//   job.textproto  metrics.jsonl  log.txt  exit.json  .lock  checkpoints/step-N/
class RunDirectory {
 public:
  // Makes the folder where it is not there, and takes `lock` where it is empty. Throws Error{cannot_create}, with
  // nothing new left behind.
  RunDirectory(const v1::Job& resolved, std::optional<RunLock>& lock);

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path metrics() const { return path_ / "metrics.jsonl"; }
  std::filesystem::path log() const { return path_ / "log.txt"; }

  void keep(const KeptRows&) const;  // of metrics.jsonl, which is replaced whole; Error{io}

  bool has_evaluation(Index step) const;  // whether metrics.jsonl has its row

 private:
  std::filesystem::path path_;
};

}  // namespace plasmid
