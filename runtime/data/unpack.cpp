#include "runtime/data/unpack.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <zlib.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "runtime/base/error.hpp"
#include "runtime/base/philox.hpp"

namespace plasmid {
namespace {

namespace fs = std::filesystem;

// A kept file is the content, then `origin`, then this. At the end, so that a cut cannot go unseen.
struct Trailer {
  Index content = 0, origin = 0;  // bytes of each
  char mark[16] = "plasmid-unpack1";
};

// Names the packed file and its state.
std::string origin_of(const InputFile& packed) {
  struct stat status {};
  if (::fstat(packed.descriptor(), &status) != 0)
    throw Error(ErrorCode::io, packed.path().string() + ": " + std::strerror(errno));
  return fs::weakly_canonical(packed.path()).string() + '\n' + std::to_string(status.st_size) + '\n' +
         std::to_string(status.st_mtim.tv_sec) + '.' + std::to_string(status.st_mtim.tv_nsec);
}

std::unique_ptr<Bytes> open_kept(const fs::path& path, const std::string& origin) {
  if (std::error_code ignored; !fs::is_regular_file(path, ignored)) return nullptr;
  InputFile kept(path);
  Trailer trailer;
  const Trailer expected;
  const auto tail = static_cast<Index>(sizeof trailer);
  if (kept.size() < tail) return nullptr;
  kept.read_at(kept.size() - tail, std::as_writable_bytes(std::span(&trailer, 1)));
  const auto length = static_cast<Index>(origin.size());
  if (std::memcmp(trailer.mark, expected.mark, sizeof trailer.mark) != 0 || trailer.origin != length ||
      trailer.content != kept.size() - tail - length)
    return nullptr;
  std::string found(origin.size(), '\0');
  kept.read_at(trailer.content, std::as_writable_bytes(std::span(found)));
  return found == origin ? raw_bytes(std::move(kept), trailer.content) : nullptr;
}

struct GzipTraits {
  static gzFile empty() { return nullptr; }
  static void close(gzFile file) noexcept { ::gzclose(file); }
};

void unpack(const InputFile& packed, AtomicFile& to, const std::string& origin) {
  const std::string name = packed.path().string();
  Descriptor own(::dup(packed.descriptor()));
  if (!own || ::lseek(own.get(), 0, SEEK_SET) != 0) throw Error(ErrorCode::io, name + ": " + std::strerror(errno));
  const UniqueHandle<gzFile, GzipTraits> gzip(::gzdopen(own.get(), "rb"));
  if (!gzip) throw Error(ErrorCode::memory, name + ": no memory to unpack it");
  own.release();
  ::gzbuffer(gzip.get(), 1 << 18);

  Trailer trailer;
  std::vector<char> chunk(std::size_t{1} << 20);
  for (;;) {
    const int got = ::gzread(gzip.get(), chunk.data(), static_cast<unsigned>(chunk.size()));
    int status = Z_OK;
    const char* text = ::gzerror(gzip.get(), &status);
    if (got < 0 || status != Z_OK)
      throw Error(ErrorCode::data, name + ": " + (status == Z_BUF_ERROR ? "truncated gzip" : "damaged gzip") +
                                       " after " + std::to_string(trailer.content) + " unpacked bytes: " + text);
    if (got == 0) break;
    to.write(std::as_bytes(std::span(chunk.data(), static_cast<std::size_t>(got))));
    trailer.content += got;
  }
  trailer.origin = static_cast<Index>(origin.size());
  to.write(origin);
  to.write(std::as_bytes(std::span(&trailer, 1)));
}

// Held while one process unpacks; a file system without locks costs double work, nothing else.
Descriptor lock_folder(const fs::path& folder) {
  Descriptor lock(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  while (lock && ::flock(lock.get(), LOCK_EX) != 0 && errno == EINTR) continue;
  return lock;
}

}  // namespace

std::unique_ptr<Bytes> unpacked_bytes(const InputFile& packed, const fs::path& cache) {
  const std::string origin = origin_of(packed);
  const fs::path folder = cache.empty() ? default_cache() : cache;
  std::error_code failure;
  fs::create_directories(folder, failure);
  if (failure) throw Error(ErrorCode::cannot_create, folder.string() + ": cannot be created: " + failure.message());

  // One name a path, so that the text of an older state is replaced, not left behind.
  char name[40];
  std::snprintf(name, sizeof name, "%016llx.unpacked",
                static_cast<unsigned long long>(name_key(origin.substr(0, origin.find('\n')).c_str())));
  const fs::path path = folder / name;
  if (auto kept = open_kept(path, origin)) return kept;
  const Descriptor lock = lock_folder(folder);
  if (auto kept = open_kept(path, origin)) return kept;

  AtomicFile file(path);
  unpack(packed, file, origin);
  if (origin_of(packed) != origin)
    throw Error(ErrorCode::data, packed.path().string() + ": changed while it was unpacked");
  file.commit();
  if (auto kept = open_kept(path, origin)) return kept;
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
