#include "runtime/data/bytes.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

#include "runtime/base/check.hpp"
#include "runtime/base/error.hpp"
#include "runtime/data/unpack.hpp"

namespace plasmid {
namespace {

enum class Packing { none, gzip, bgzip };

// RFC 1952's two magic bytes; bgzip is gzip whose first extra field is named BC (SAM specification, section 4.1).
Packing packing_of(const InputFile& file) {
  std::array<unsigned char, 14> head{};
  const std::size_t got = file.read_at(0, std::as_writable_bytes(std::span(head)));
  if (got < 2 || head[0] != 0x1f || head[1] != 0x8b) return Packing::none;
  const bool extra = got == head.size() && head[2] == 8 && (head[3] & 4) != 0;
  return extra && head[12] == 'B' && head[13] == 'C' ? Packing::bgzip : Packing::gzip;
}

class RawBytes final : public Bytes {
 public:
  RawBytes(InputFile file, Index size) : file_(std::move(file)), size_(size) {}
  Index size() const override { return size_; }
  void read(Index offset, std::span<char> to) override {
    PLASMID_CHECK(0 <= offset && offset + static_cast<Index>(to.size()) <= size_);
    if (file_.read_at(offset, std::as_writable_bytes(to)) != to.size())
      throw Error(ErrorCode::data, file_.path().string() + ": became shorter while it was in use");
  }

 private:
  InputFile file_;
  Index size_;
};

void visit_all(Bytes& bytes, const VisitBytes& visit) {
  constexpr Index kChunk = 1 << 20;
  std::vector<char> chunk(static_cast<std::size_t>(std::min(kChunk, bytes.size())));
  for (Index offset = 0; offset < bytes.size(); offset += kChunk) {
    const std::span<char> part(chunk.data(), static_cast<std::size_t>(std::min(kChunk, bytes.size() - offset)));
    bytes.read(offset, part);
    visit(part);
  }
}

std::unique_ptr<Bytes> open_without_visit(InputFile file, Packing packing, const Cache& cache) {
  if (packing != Packing::none) return unpacked_bytes(file, cache);
  const Index size = file.size();
  return raw_bytes(std::move(file), size);
}

}  // namespace

std::unique_ptr<Bytes> raw_bytes(InputFile file, Index size) {
  return std::make_unique<RawBytes>(std::move(file), size);
}

std::unique_ptr<Bytes> open_bytes(const std::filesystem::path& path, const Cache& cache, const VisitBytes& visit) {
  return open_bytes(InputFile(path), cache, visit);
}

std::unique_ptr<Bytes> open_bytes(InputFile file, const Cache& cache, const VisitBytes& visit) {
  const std::filesystem::path path = file.path();
  const Packing packing = packing_of(file);
  if (packing == Packing::none && path.extension() == ".gz")
    throw Error(ErrorCode::data, path.string() + (file.size() == 0 ? ": is empty" : ": is named .gz but is not gzip"));
#ifdef PLASMID_HTS
  if (packing == Packing::bgzip) return bgzip_bytes(file, visit);
#endif
  std::unique_ptr<Bytes> bytes = open_without_visit(std::move(file), packing, cache);
  if (visit) visit_all(*bytes, visit);
  return bytes;
}

}  // namespace plasmid
