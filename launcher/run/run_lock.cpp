#include "launcher/run/run_lock.hpp"

#include <fcntl.h>

#include <cerrno>
#include <cstring>

#include "runtime/base/error.hpp"
#include "runtime/base/quote.hpp"

namespace plasmid {
namespace {

std::string this_process() {
  char host[256] = "";
  ::gethostname(host, sizeof host - 1);
  return "process " + std::to_string(::getpid()) + " on host " + host;
}

std::string holder_of(int descriptor) {
  char text[320] = "";
  const ssize_t got = ::pread(descriptor, text, sizeof text - 1, 0);
  std::string holder(text, static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
  if (holder.empty()) return "another process";
  return holder.starts_with("process ") ? holder.substr(0, holder.find('\n')) : quote(holder);
}

}  // namespace

RunLock::RunLock(const std::filesystem::path& run, Call lock) {
  const std::string name = "run_directory: " + run.string();
  file_.reset(::open((run / ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666));
  if (!file_) throw Error(ErrorCode::cannot_create, name + " cannot be written: .lock: " + std::strerror(errno));
  int status = 0;
  do status = lock(file_.get(), LOCK_EX | LOCK_NB);
  while (status != 0 && errno == EINTR);
  if (status != 0 && errno == EWOULDBLOCK)
    throw Error(ErrorCode::cannot_create, name + " is in use by " + holder_of(file_.get()));
  if (status != 0)
    warning_ = run.string() + ": the file system has no locks (" + std::strerror(errno) +
               "): nothing keeps a second run out of this directory";
  const std::string holder = this_process() + "\n";
  // The name is a help to readers; the lock holds without it, on a full disk too.
  if (::ftruncate(file_.get(), 0) != 0 || ::pwrite(file_.get(), holder.data(), holder.size(), 0) < 0) return;
}

RunLock::~RunLock() {
  if (file_ && ::ftruncate(file_.get(), 0) != 0) return;
}

}  // namespace plasmid
