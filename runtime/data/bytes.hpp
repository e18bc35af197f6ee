#pragma once
#include <filesystem>
#include <functional>
#include <memory>
#include <span>

#include "runtime/base/index.hpp"
#include "runtime/data/cache.hpp"
#include "runtime/io/file.hpp"

namespace plasmid {

// What a file says once it is unpacked, by range. Not thread-safe.
class Bytes {
 public:
  virtual ~Bytes() = default;
  virtual Index size() const = 0;
  // Fills `to` from `offset` on; Error{data} where the file has become shorter or is damaged.
  virtual void read(Index offset, std::span<char> to) = 0;
};

using VisitBytes = std::function<void(std::span<const char>)>;

// Opens a file by its first bytes: raw; bgzip, read in place through htslib; gzip (and bgzip in a build without
// htslib), unpacked once into a file of the folder `cache` (see unpack.hpp). `visit`, where given, sees all bytes once,
// in order. Throws Error{no_input}, Error{data} for a name in .gz whose bytes are not gzip and for a truncated or
// damaged file.
std::unique_ptr<Bytes> open_bytes(const std::filesystem::path&, const Cache& cache, const VisitBytes& visit = {});
std::unique_ptr<Bytes> open_bytes(InputFile, const Cache& cache, const VisitBytes& visit = {});

// The first `size` bytes of an open file, as they are.
std::unique_ptr<Bytes> raw_bytes(InputFile, Index size);

// A bgzip file: one pass builds its block index in memory (16 bytes per 64 KiB) and shows the bytes to `visit`.
std::unique_ptr<Bytes> bgzip_bytes(const InputFile&, const VisitBytes& visit);

}  // namespace plasmid
