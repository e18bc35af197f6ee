#pragma once
#include <filesystem>
#include <string>

#include "launcher/job/job_file.hpp"
#include "runtime/base/index.hpp"

namespace plasmid {

// Looks, and changes nothing: whether the directory holds a run to go on with. Throws Error{cannot_create} when it
// holds anything else, or a run under resume: NEVER.
bool holds_run(const v1::Job&);

// The folder of one run, made by one rank or found there:
//   job.textproto  metrics.jsonl  log.txt  exit.json  checkpoints/step-N/
class RunDirectory {
 public:
  explicit RunDirectory(const v1::Job& resolved);  // Error{cannot_create}, with nothing new left behind

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path metrics() const { return path_ / "metrics.jsonl"; }
  std::filesystem::path log() const { return path_ / "log.txt"; }

  // Rows of metrics.jsonl beyond this step are of work that is done again; the file is replaced whole. Error{io}.
  void cut_metrics(Index last_step) const;

  bool has_evaluation(Index step) const;  // whether metrics.jsonl has its row

  void write_exit(int code, const std::string& reason, bool retry) const;

 private:
  std::filesystem::path path_;
};

}  // namespace plasmid
