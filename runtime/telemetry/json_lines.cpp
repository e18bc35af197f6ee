#include "runtime/telemetry/json_lines.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "runtime/base/check.hpp"
#include "runtime/base/error.hpp"
#include "runtime/io/sync.hpp"

namespace plasmid {
namespace {

[[noreturn]] void fail(const std::filesystem::path& path, const char* what) {
  throw Error(ErrorCode::io, path.string() + ": " + what + ": " + std::strerror(errno));
}

// What stands after the last line end.
std::string last_part(const InputFile& file) {
  constexpr Index kChunk = 1 << 16;
  std::string tail;
  for (Index end = file.size(); end > 0;) {
    const Index begin = std::max<Index>(0, end - kChunk);
    std::string part(static_cast<std::size_t>(end - begin), '\0');
    file.read_at(begin, std::as_writable_bytes(std::span(part)));
    const std::size_t line_end = part.rfind('\n');
    if (line_end != std::string::npos) return part.substr(line_end + 1) + tail;
    tail = part + tail;
    end = begin;
  }
  return tail;
}

}  // namespace

JsonLines::JsonLines(std::filesystem::path path) : path_(std::move(path)) {
  descriptor_.reset(::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0666));
  if (!descriptor_)
    throw Error(ErrorCode::cannot_create, path_.string() + ": cannot be opened for writing: " + std::strerror(errno));
  repair();
}

void JsonLines::repair() {
  const InputFile file(path_);
  const std::string tail = last_part(file);
  if (tail.empty()) return;
  if (nlohmann::json::accept(tail)) {
    if (::write(descriptor_.get(), "\n", 1) != 1) fail(path_, "writing failed");
  } else if (::ftruncate(descriptor_.get(), file.size() - static_cast<Index>(tail.size())) != 0) {
    fail(path_, "cutting a torn line failed");
  }
}

void JsonLines::append(const std::string& object) {
  PLASMID_CHECK(object.find('\n') == std::string::npos) << "an object is one line";
  const std::string line = object + '\n';
  const off_t before = ::lseek(descriptor_.get(), 0, SEEK_END);
  std::size_t done = 0;
  while (done < line.size()) {
    const ssize_t put = ::write(descriptor_.get(), line.data() + done, line.size() - done);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) {
      const int reason = errno;
      if (before >= 0 && ::ftruncate(descriptor_.get(), before) != 0) errno = reason;  // the next opening repairs it
      errno = reason;
      fail(path_, "writing failed");
    }
    done += static_cast<std::size_t>(put);
  }
}

void JsonLines::sync() {
  if (sync_to_disk(descriptor_.get()) != 0) fail(path_, "syncing failed");
}

}  // namespace plasmid
