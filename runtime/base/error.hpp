#pragma once
#include <stdexcept>
#include <string>

namespace plasmid {

// The exit status a user's mistake ends in: sysexits.h, so that scripts can tell one from another.
enum class ErrorCode : int {
  usage = 64,          // the command line
  data = 65,           // a file's content
  no_input = 66,       // a file that is not there
  software = 70,       // ours: an internal limit
  memory = 71,         // EX_OSERR: the machine has too little
  cannot_create = 73,  // a path that cannot be made, or must not be overwritten
  io = 74,             // reading or writing failed
  requeue = 75,        // stopped cleanly before the end: run me again
  config = 78,         // the job
};

// A user's mistake or the machine's refusal. The message is one line that names the field, file or line and the
// arithmetic; it is printed once and ends the process with `code`. Broken invariants are CHECKs, not Errors.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const noexcept { return code_; }
  int exit_status() const noexcept { return static_cast<int>(code_); }

 private:
  ErrorCode code_;
};

}  // namespace plasmid
