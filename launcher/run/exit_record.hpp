#pragma once
#include <filesystem>
#include <string>

namespace plasmid {

// exit.json of a run directory tells a script how the last `plasmid train` that had the directory to itself ended:
//   {"code": 75, "reason": "asked to stop by a signal after step 40 of 100", "retry": true}
// It is removed when a process takes the directory, and written once when that ends: finished, stopped, refused or
// nothing to do, or by the watchdog of a rank that outlived another. None there: a run is under way, or was ended by
// force. `retry` is true with 75 alone.
// A process that does not get the directory, since another is at work in it, changes nothing; so does one whose job
// cannot be read, for it knows of no directory.

bool has_exit(const std::filesystem::path& run);
void remove_exit(const std::filesystem::path& run);  // Error{cannot_create}
void write_exit(const std::filesystem::path& run, int code, const std::string& reason, bool retry);  // as AtomicFile

// For a rank that ends the job in the name of all: several may come to it, and the first word stands. False: it was not
// this one. Error{cannot_create | io}.
bool write_first_exit(const std::filesystem::path& run, int code, const std::string& reason, bool retry);

// Takes the directory for as long as it needs to record a job that was refused before it could; nothing where there is
// no run, or the directory is not to be had.
void record_refusal(const std::filesystem::path& run, int code, const std::string& reason) noexcept;

}  // namespace plasmid
