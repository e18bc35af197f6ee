#pragma once
#include <chrono>
#include <memory>
#include <string>

#include "launcher/job/job_file.hpp"
#include "launcher/run/run_directory.hpp"
#include "runtime/telemetry/step_record.hpp"

namespace plasmid {

// What one rank tells of the run: lines on standard output and in log.txt, rows in metrics.jsonl, and progress: one
// line that is written over on a terminal, elsewhere a plain line every few seconds. A disk that takes no more ends
// nothing: rows wait in memory (metrics_rows.hpp), lines of log.txt are lost, and either is said once.
class Report {
 public:
  Report(const RunDirectory&, const v1::Job&, bool terminal);  // Error{cannot_create}
  ~Report();

  void say(const std::string& line);                                  // both
  void note(const std::string& line);                                 // log.txt alone
  void step(const StepRecord&);                                       // from 1
  void evaluation(const EvaluationRecord&, const std::string& line);  // the row, and the line as `say`
  void sync();                                                        // the rows so far reach the disk

  // Rows that are still kept in memory: how many and why, in words. Empty: all are written.
  std::string unwritten();

 private:
  void row(const std::string&);
  void tell(const std::string& news);

  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Whether somebody watches standard output: mpirun puts a terminal between, so there its own output counts.
bool output_is_terminal();

std::string human_count(double value);      // "12.3k"
std::string human_seconds(double seconds);  // "1m32s"

}  // namespace plasmid
