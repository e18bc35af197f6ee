#pragma once
#include <deque>
#include <filesystem>
#include <string>

#include "runtime/base/index.hpp"
#include "runtime/telemetry/json_lines.hpp"

namespace plasmid {

// metrics.jsonl while a run writes it. A row that cannot be written, as on a full disk, does not end the run: it is
// kept in memory, with those after it, and written in order once a row can be again. What is kept when the process ends
// is lost.
class MetricsRows {
 public:
  explicit MetricsRows(std::filesystem::path);  // errors as JsonLines

  // Each returns a line to say when rows begin to be kept, or all of them have been written; else nothing.
  std::string append(const std::string& row);
  std::string write_kept();
  std::string sync();  // the rows that could be written reach the disk

  Index kept() const { return std::ssize(kept_); }
  const std::string& problem() const { return problem_; }  // why rows are kept

 private:
  std::filesystem::path path_;
  JsonLines lines_;
  std::deque<std::string> kept_;
  std::string problem_;
};

}  // namespace plasmid
