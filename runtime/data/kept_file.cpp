#include "runtime/data/kept_file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <thread>
#include <utility>

#include "runtime/base/error.hpp"
#include "runtime/base/philox.hpp"

namespace plasmid {
namespace {

namespace fs = std::filesystem;

// A kept file is its sections, their sizes, the origin, then this. At the end, so that a cut cannot go unseen.
struct Trailer {
  Index sections = 0, origin = 0;  // how many; bytes
  char mark[16] = "plasmid-kept--2";
};

// Names the source, its state and the variant.
std::string origin_of(const InputFile& source, const std::string& variant) {
  struct stat status {};
  if (::fstat(source.descriptor(), &status) != 0)
    throw Error(ErrorCode::io, source.path().string() + ": " + std::strerror(errno));
  return fs::weakly_canonical(source.path()).string() + '\n' + std::to_string(status.st_size) + '\n' +
         std::to_string(status.st_mtim.tv_sec) + '.' + std::to_string(status.st_mtim.tv_nsec) + '\n' + variant;
}

// One name a path and variant, so that what came of an older state is replaced, not left behind.
fs::path place_of(const fs::path& folder, const InputFile& source, const std::string& variant, const char* suffix) {
  char name[40];
  const std::string key = fs::weakly_canonical(source.path()).string() + (variant.empty() ? "" : "\n") + variant;
  std::snprintf(name, sizeof name, "%016llx", static_cast<unsigned long long>(name_key(key.c_str())));
  return folder / (std::string(name) + suffix);
}

template <class T>
bool read_exactly(const InputFile& file, Index offset, std::span<T> to) {
  return file.read_at(offset, std::as_writable_bytes(to)) == to.size_bytes();
}

std::optional<KeptFile> open_kept(const fs::path& path, const std::string& origin) {
  if (std::error_code ignored; !fs::is_regular_file(path, ignored)) return std::nullopt;
  InputFile file(path);
  Trailer trailer;
  const Trailer expected;
  constexpr Index kMostSections = 16;
  Index at = file.size() - static_cast<Index>(sizeof trailer);
  if (at < 0 || !read_exactly(file, at, std::span(&trailer, 1)) ||
      std::memcmp(trailer.mark, expected.mark, sizeof trailer.mark) != 0 ||
      trailer.origin != static_cast<Index>(origin.size()) || trailer.sections < 0 || trailer.sections > kMostSections)
    return std::nullopt;
  std::string found(origin.size(), '\0');
  std::vector<Index> sizes(static_cast<std::size_t>(trailer.sections));
  at -= trailer.origin;
  if (at < 0 || !read_exactly(file, at, std::span(found)) || found != origin) return std::nullopt;
  at -= static_cast<Index>(sizes.size() * sizeof(Index));
  if (at < 0 || !read_exactly(file, at, std::span(sizes))) return std::nullopt;
  std::vector<Range> sections;
  Index begin = 0;
  for (const Index size : sizes) {
    if (size < 0 || size > at - begin) return std::nullopt;
    sections.push_back({begin, begin + size});
    begin += size;
  }
  if (begin != at) return std::nullopt;
  return KeptFile{std::move(file), std::move(sections)};
}

// Held while one process makes one kept file; it has a file of its own, gone with it. A file system without locks costs
// double work, nothing else.
class MakerLock {
 public:
  MakerLock(const fs::path& kept, const InputFile& source, const Cache& cache) : path_(kept.string() + ".lock") {
    do {
      lock_.reset(::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
      held_ = lock_ && wait(source, cache);
    } while (held_ && !is_there());
  }
  ~MakerLock() {
    if (held_) ::unlink(path_.c_str());
  }
  MakerLock(const MakerLock&) = delete;
  MakerLock& operator=(const MakerLock&) = delete;
  bool held() const { return held_; }

 private:
  // While it waits it reads, which tells a watchdog that this process is not stuck.
  bool wait(const InputFile& source, const Cache& cache) {
    while (::flock(lock_.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno == EINTR) continue;
      if (errno != EWOULDBLOCK) return false;
      if (!std::exchange(said_, true) && cache.say)
        cache.say("waiting for another process that reads " + source.path().string());
      std::byte byte{};
      source.read_at(0, std::span(&byte, 1));
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    return true;
  }

  // The one who held it before has removed its name.
  bool is_there() const {
    struct stat held {
    }, named{};
    return ::fstat(lock_.get(), &held) == 0 && ::stat(path_.c_str(), &named) == 0 && held.st_dev == named.st_dev &&
           held.st_ino == named.st_ino;
  }

  std::string path_;
  Descriptor lock_;
  bool held_ = false, said_ = false;
};

// Of the lock's holder: who else wrote this file is dead.
void remove_leftovers(const fs::path& kept) {
  const std::string prefix = AtomicFile::temporary_prefix(kept);
  std::error_code ignored;
  for (fs::directory_iterator entry(kept.parent_path(), ignored), end; entry != end; entry.increment(ignored)) {
    const std::string name = entry->path().filename().string();
    if (name.starts_with(prefix) && name.ends_with(".tmp")) ::unlink(entry->path().c_str());
  }
}

}  // namespace

void KeptWriter::write(std::span<const std::byte> bytes) {
  constexpr std::size_t kChunk = std::size_t{1} << 20;
  size_ += static_cast<Index>(bytes.size());
  waiting_.insert(waiting_.end(), bytes.begin(), bytes.end());
  if (waiting_.size() >= kChunk) flush();
}

void KeptWriter::flush() {
  file_.write(waiting_);
  waiting_.clear();
}

void KeptWriter::end_section() {
  sizes_.push_back(size_);
  size_ = 0;
}

std::vector<Index> KeptWriter::finish() {
  flush();
  return sizes_;
}

KeptFile keep(const InputFile& source, const Cache& cache, const std::string& variant, const char* suffix,
              const std::function<void(KeptWriter&)>& make) {
  const std::string origin = origin_of(source, variant);
  const fs::path folder = cache.folder.empty() ? default_cache() : cache.folder;
  std::error_code failure;
  fs::create_directories(folder, failure);
  if (failure) throw Error(ErrorCode::cannot_create, folder.string() + ": cannot be created: " + failure.message());

  const fs::path path = place_of(folder, source, variant, suffix);
  if (auto kept = open_kept(path, origin)) return std::move(*kept);
  const MakerLock lock(path, source, cache);
  if (auto kept = open_kept(path, origin)) return std::move(*kept);

  if (lock.held()) remove_leftovers(path);
  AtomicFile file(path);
  KeptWriter writer(file);
  make(writer);
  const std::vector<Index> sizes = writer.finish();
  Trailer trailer;
  trailer.sections = static_cast<Index>(sizes.size()), trailer.origin = static_cast<Index>(origin.size());
  file.write(std::as_bytes(std::span(sizes)));
  file.write(origin);
  file.write(std::as_bytes(std::span(&trailer, 1)));
  if (origin_of(source, variant) != origin)
    throw Error(ErrorCode::data, source.path().string() + ": changed while it was read");
  file.commit();
  if (auto kept = open_kept(path, origin)) return std::move(*kept);
  throw Error(ErrorCode::io, path.string() + ": changed while it was in use");
}

fs::path default_cache() {
  if (const char* named = std::getenv("XDG_CACHE_HOME"); named && *named == '/') return fs::path(named) / "plasmid";
  if (const char* home = std::getenv("HOME"); home && *home == '/') return fs::path(home) / ".cache/plasmid";
  // Anybody may have made a folder of this name there.
  std::error_code failure;
  const fs::path temporary = fs::temp_directory_path(failure);
  if (failure)
    throw Error(ErrorCode::cannot_create,
                "no folder for the cache: no HOME or XDG_CACHE_HOME, and TMPDIR is no folder");
  const fs::path folder = temporary / ("plasmid-" + std::to_string(::getuid()));
  ::mkdir(folder.c_str(), 0700);
  struct stat status {};
  if (::lstat(folder.c_str(), &status) != 0 || !S_ISDIR(status.st_mode) || status.st_uid != ::getuid())
    throw Error(ErrorCode::cannot_create, folder.string() + ": is not a folder of this user");
  return folder;
}

}  // namespace plasmid
