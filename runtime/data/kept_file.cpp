#include "runtime/data/kept_file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
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

// Held while one process makes a file; a file system without locks costs double work, nothing else.
Descriptor lock_folder(const fs::path& folder) {
  Descriptor lock(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  while (lock && ::flock(lock.get(), LOCK_EX) != 0 && errno == EINTR) continue;
  return lock;
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

KeptFile keep(const InputFile& source, const fs::path& cache, const std::string& variant, const char* suffix,
              const std::function<void(KeptWriter&)>& make) {
  const std::string origin = origin_of(source, variant);
  const fs::path folder = cache.empty() ? default_cache() : cache;
  std::error_code failure;
  fs::create_directories(folder, failure);
  if (failure) throw Error(ErrorCode::cannot_create, folder.string() + ": cannot be created: " + failure.message());

  const fs::path path = place_of(folder, source, variant, suffix);
  if (auto kept = open_kept(path, origin)) return std::move(*kept);
  const Descriptor lock = lock_folder(folder);
  if (auto kept = open_kept(path, origin)) return std::move(*kept);

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
  const fs::path folder = fs::temp_directory_path() / ("plasmid-" + std::to_string(::getuid()));
  ::mkdir(folder.c_str(), 0700);
  struct stat status {};
  if (::lstat(folder.c_str(), &status) != 0 || !S_ISDIR(status.st_mode) || status.st_uid != ::getuid())
    throw Error(ErrorCode::cannot_create, folder.string() + ": is not a folder of this user");
  return folder;
}

}  // namespace plasmid
