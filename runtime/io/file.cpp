#include "runtime/io/file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "runtime/base/error.hpp"
#include "runtime/io/sync.hpp"

namespace plasmid {
namespace {

[[noreturn]] void fail(ErrorCode code, const std::filesystem::path& path, const char* what) {
  throw Error(code, path.string() + ": " + what + ": " + std::strerror(errno));
}

// What is not there or cannot be a file is not the same as what could not be read this time.
ErrorCode code_of_opening(int reason) {
  switch (reason) {
    case ENOENT:
    case ENOTDIR:
    case ELOOP:
    case ENAMETOOLONG:
    case ENXIO:
      return ErrorCode::no_input;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      return ErrorCode::memory;
    default:
      return ErrorCode::io;
  }
}

// Other processes, on other machines too, may write into the same folder: a taken name moves on to the next.
Descriptor create_beside(const std::filesystem::path& path, std::filesystem::path& temporary) {
  static std::atomic<unsigned> counter{0};
  for (;;) {
    temporary = path;
    temporary.replace_filename(AtomicFile::temporary_prefix(path) + std::to_string(::getpid()) + "-" +
                               std::to_string(counter++) + ".tmp");
    Descriptor made(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    if (made) return made;
    if (errno != EEXIST && errno != EINTR) fail(ErrorCode::cannot_create, path, "cannot be created");
  }
}

}  // namespace

InputFile::InputFile(std::filesystem::path path) : path_(std::move(path)) {
  descriptor_.reset(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!descriptor_) fail(code_of_opening(errno), path_, "cannot be read");
  struct stat status {};
  if (::fstat(descriptor_.get(), &status) != 0) fail(ErrorCode::io, path_, "cannot be read");
  if (!S_ISREG(status.st_mode)) throw Error(ErrorCode::no_input, path_.string() + ": is not a regular file");
  size_ = status.st_size;
}

InputFile InputFile::again() const {
  InputFile other;
  other.descriptor_.reset(::fcntl(descriptor_.get(), F_DUPFD_CLOEXEC, 0));
  if (!other.descriptor_) fail(code_of_opening(errno), path_, "cannot be read");
  other.path_ = path_, other.size_ = size_;
  return other;
}

std::size_t InputFile::read_at(Index offset, std::span<std::byte> to) const {
  std::size_t done = 0;
  while (done < to.size()) {
    const ssize_t got =
        ::pread(descriptor_.get(), to.data() + done, to.size() - done, offset + static_cast<Index>(done));
    if (got == 0) break;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(ErrorCode::io, path_, "reading failed");
    done += static_cast<std::size_t>(got);
  }
  return done;
}

MappedFile::MappedFile(const std::filesystem::path& path) {
  const InputFile file(path);
  const auto size = static_cast<std::size_t>(file.size());
  if (size == 0) return;  // nothing to map, and mmap refuses it
  void* start = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file.descriptor(), 0);
  if (start == MAP_FAILED) fail(errno == ENOMEM ? ErrorCode::memory : ErrorCode::io, path, "cannot be mapped");
  bytes_ = {static_cast<const std::byte*>(start), size};
}

MappedFile::MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

AtomicFile::AtomicFile(std::filesystem::path path) : path_(std::move(path)) {
  if (!path_.has_filename()) throw Error(ErrorCode::cannot_create, path_.string() + ": names no file");
  if (std::error_code ignored; std::filesystem::is_directory(path_, ignored))
    throw Error(ErrorCode::cannot_create, path_.string() + ": is a folder");
  descriptor_ = create_beside(path_, temporary_);
}

std::string AtomicFile::temporary_prefix(const std::filesystem::path& path) {
  constexpr std::size_t kMost = 128;  // bytes: what follows must find room in a name of 255
  return ".plasmid-" + path.filename().string().substr(0, kMost) + "-";
}

AtomicFile::~AtomicFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  constexpr std::size_t kStretch = 8 << 20;
  while (!bytes.empty()) {
    const ssize_t put = ::write(descriptor_.get(), bytes.data(), std::min(bytes.size(), kStretch));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) fail(ErrorCode::io, path_, "writing failed");
    bytes = bytes.subspan(static_cast<std::size_t>(put));
    unsent_ += static_cast<std::size_t>(put);
    if (unsent_ < kStretch) continue;
    // The disk begins while the next bytes come, so that the sync at the end finds little to do. A hint: it may fail.
    ::sync_file_range(descriptor_.get(), 0, 0, SYNC_FILE_RANGE_WRITE);
    unsent_ = 0;
  }
}

void AtomicFile::commit(FolderSync folder) {
  if (sync_to_disk(descriptor_.get()) != 0) fail(ErrorCode::io, path_, "syncing failed");
  // Network file systems report a failed write only here.
  if (::close(descriptor_.release()) != 0) fail(ErrorCode::io, path_, "closing failed");
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail(ErrorCode::io, path_, "renaming failed");
  temporary_.clear();
  if (folder == FolderSync::now) sync_folder(path_.has_parent_path() ? path_.parent_path() : ".");
}

bool AtomicFile::commit_if_absent() {
  if (sync_to_disk(descriptor_.get()) != 0) fail(ErrorCode::io, path_, "syncing failed");
  bool first = ::link(temporary_.c_str(), path_.c_str()) == 0;
  if (!first && errno == EEXIST) {  // a network file system may have made the link and lost its answer
    struct stat status {};
    first = ::fstat(descriptor_.get(), &status) == 0 && status.st_nlink == 2;
    errno = EEXIST;
  }
  // A file system without links: an atomic look comes before a rename.
  const bool has_links = first || errno == EEXIST;
  if (!has_links && errno != EPERM && errno != EOPNOTSUPP && errno != ENOSYS && errno != EMLINK)
    fail(ErrorCode::io, path_, "linking failed");
  if (!has_links) {
    const Descriptor claimed(::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    if (!claimed && errno != EEXIST) fail(ErrorCode::cannot_create, path_, "cannot be created");
    if (!claimed) return false;
    commit();
    return true;
  }
  if (first) sync_folder(path_.has_parent_path() ? path_.parent_path() : ".");
  return first;
}

void write_file_atomically(const std::filesystem::path& path, const std::string& content, FolderSync folder) {
  AtomicFile file(path);
  file.write(content);
  file.commit(folder);
}

bool create_file_atomically(const std::filesystem::path& path, const std::string& content) {
  AtomicFile file(path);
  file.write(content);
  return file.commit_if_absent();
}

void sync_folder(const std::filesystem::path& folder) {
  const Descriptor opened(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!opened) fail(ErrorCode::io, folder, "cannot be opened");
  // Some network file systems sync names by themselves and say EINVAL.
  if (sync_to_disk(opened.get()) != 0 && errno != EINVAL) fail(ErrorCode::io, folder, "cannot be synced");
}

Index free_bytes(const std::filesystem::path& folder) {
  struct statvfs status {};
  if (::statvfs(folder.c_str(), &status) != 0) fail(ErrorCode::io, folder, "cannot tell its free space");
  return static_cast<Index>(status.f_bavail) * static_cast<Index>(status.f_frsize);
}

}  // namespace plasmid
