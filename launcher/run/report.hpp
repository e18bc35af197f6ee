#pragma once
#include <chrono>
#include <memory>
#include <string>

#include "launcher/job/job_file.hpp"
#include "launcher/run/run_directory.hpp"
#include "runtime/telemetry/step_record.hpp"

namespace plasmid {

// What one rank tells of the run: lines on standard output and in log.txt, rows in metrics.jsonl, and progress: one
// line that is written over on a terminal, elsewhere a plain line every few seconds.
class Report {
 public:
  Report(const RunDirectory&, const v1::Job&, bool terminal);  // Error{cannot_create}
  ~Report();

  void say(const std::string& line);   // both
  void note(const std::string& line);  // log.txt alone
  void step(const StepRecord&);        // from 1; Error{io} when the row cannot be written
  void evaluation(const EvaluationRecord&, const std::string& line);  // the row, and the line as `say`; Error{io}
  void sync();                                                        // the rows so far reach the disk; Error{io}

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Whether somebody watches standard output: mpirun puts a terminal between, so there its own output counts.
bool output_is_terminal();

std::string human_count(double value);      // "12.3k"
std::string human_seconds(double seconds);  // "1m32s"

}  // namespace plasmid
