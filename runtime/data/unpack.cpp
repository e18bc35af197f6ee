#include "runtime/data/unpack.hpp"

#include <zlib.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "runtime/base/error.hpp"
#include "runtime/data/kept_file.hpp"

namespace plasmid {
namespace {

struct GzipTraits {
  static gzFile empty() { return nullptr; }
  static void close(gzFile file) noexcept { ::gzclose(file); }
};

// zlib's words start with a file's name, here "<fd:20>: ".
std::string without_descriptor(std::string text) {
  const std::size_t end = text.find(">: ");
  return text.starts_with("<fd:") && end != std::string::npos ? text.substr(end + 3) : text;
}

}  // namespace

void visit_unpacked(const InputFile& packed, const VisitBytes& visit) {
  const std::string name = packed.path().string();
  Descriptor own(::dup(packed.descriptor()));
  if (!own || ::lseek(own.get(), 0, SEEK_SET) != 0) throw Error(ErrorCode::io, name + ": " + std::strerror(errno));
  const UniqueHandle<gzFile, GzipTraits> gzip(::gzdopen(own.get(), "rb"));
  if (!gzip) throw Error(ErrorCode::memory, name + ": no memory to unpack it");
  own.release();
  ::gzbuffer(gzip.get(), 1 << 18);

  Index seen = 0;
  std::vector<char> chunk(std::size_t{1} << 20);
  for (;;) {
    const int got = ::gzread(gzip.get(), chunk.data(), static_cast<unsigned>(chunk.size()));
    int status = Z_OK;
    const char* text = ::gzerror(gzip.get(), &status);
    if (got < 0 && status == Z_ERRNO) throw Error(ErrorCode::io, name + ": " + std::strerror(errno));
    if (got < 0 || status != Z_OK)
      throw Error(ErrorCode::data, name + ": " + (status == Z_BUF_ERROR ? "truncated gzip" : "damaged gzip") +
                                       " after " + std::to_string(seen) +
                                       " unpacked bytes: " + without_descriptor(text));
    if (got == 0) return;
    visit({chunk.data(), static_cast<std::size_t>(got)});
    seen += got;
  }
}

std::unique_ptr<Bytes> unpacked_bytes(const InputFile& packed, const Cache& cache) {
  KeptFile kept = keep(packed, cache, "", ".unpacked", [&](KeptWriter& to) {
    visit_unpacked(packed, [&](std::span<const char> part) { to.write(std::as_bytes(part)); });
    to.end_section();
  });
  return raw_bytes(std::move(kept.file), kept.sections.front().end);
}

}  // namespace plasmid
