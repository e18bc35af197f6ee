#include "launcher/run/exit_record.hpp"

#include <nlohmann/json.hpp>

#include "launcher/run/run_directory.hpp"
#include "launcher/run/run_lock.hpp"
#include "runtime/base/error.hpp"
#include "runtime/io/file.hpp"

namespace plasmid {
namespace {

namespace fs = std::filesystem;

fs::path record_of(const fs::path& run) { return run / "exit.json"; }

std::string text_of(int code, const std::string& reason, bool retry) {
  const nlohmann::ordered_json exit = {{"code", code}, {"reason", reason}, {"retry", retry}};
  return exit.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace

bool has_exit(const fs::path& run) {
  std::error_code ignored;
  return fs::exists(record_of(run), ignored);
}

void remove_exit(const fs::path& run) {
  std::error_code problem;
  fs::remove(record_of(run), problem);
  if (problem)
    throw Error(ErrorCode::cannot_create,
                "run_directory: " + run.string() + " cannot be written: exit.json: " + problem.message());
}

void write_exit(const fs::path& run, int code, const std::string& reason, bool retry) {
  write_file_atomically(record_of(run), text_of(code, reason, retry));
}

bool write_first_exit(const fs::path& run, int code, const std::string& reason, bool retry) {
  return create_file_atomically(record_of(run), text_of(code, reason, retry));
}

void record_refusal(const fs::path& run, int code, const std::string& reason) noexcept try {
  if (!is_run(run)) return;
  const RunLock lock(run);
  write_exit(run, code, reason, false);
} catch (const std::exception&) {
  // The line on standard error stands.
}

}  // namespace plasmid
