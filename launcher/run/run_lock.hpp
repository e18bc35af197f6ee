#pragma once
#include <sys/file.h>

#include <filesystem>
#include <string>

#include "runtime/io/file.hpp"

namespace plasmid {

// One process at a time writes a run directory: an exclusive flock on its file .lock, which names the holder's host and
// process, for as long as this object lives. It ends with the process, however that ends. On a network file system it
// holds between hosts where the file system passes locks on.
class RunLock {
 public:
  using Call = int (*)(int descriptor, int operation);

  // Throws Error{cannot_create}: another process holds it, by host and number where that is known, or the file cannot
  // be written. `lock` is flock(2) or acts like it.
  explicit RunLock(const std::filesystem::path& run, Call lock = ::flock);
  RunLock(RunLock&&) noexcept = default;
  RunLock& operator=(RunLock&&) noexcept = default;
  ~RunLock();

  const std::string& warning() const { return warning_; }  // a line where the file system has no locks; else empty

 private:
  Descriptor file_;
  std::string warning_;
};

}  // namespace plasmid
