#pragma once
#include <filesystem>
#include <string>

#include "attention/model/language_model.hpp"
#include "launcher/job/job_file.hpp"
#include "runtime/nn/whole_store.hpp"

namespace plasmid {

// Looks, and changes nothing: true when the directory holds a run that has reached train.steps, so that there is
// nothing to do. Throws Error{cannot_create} when it holds anything else, or a run at all under resume: NEVER.
bool run_is_finished(const v1::Job&);

// The folder of one run, written by one rank:
//   job.textproto  metrics.jsonl  log.txt  exit.json  checkpoints/step-N/{model.safetensors, config.json}
class RunDirectory {
 public:
  explicit RunDirectory(const v1::Job& resolved);  // makes it; Error{cannot_create}, with nothing left behind

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path metrics() const { return path_ / "metrics.jsonl"; }
  std::filesystem::path log() const { return path_ / "log.txt"; }

  // A Hugging Face directory; whole or not at all: a temporary name, fsync, rename. Returns where it lies.
  std::filesystem::path save_weights(Index step, WholeStore&, const ModelShape&) const;

  void write_exit(int code, const std::string& reason, bool retry) const;

 private:
  std::filesystem::path path_;
};

}  // namespace plasmid
