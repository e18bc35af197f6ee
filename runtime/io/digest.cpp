#include "runtime/io/digest.hpp"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <vector>

#include "runtime/io/file.hpp"

namespace plasmid {

struct Digest::Impl {
  alignas(64) XXH3_state_t state;
};

Digest::Digest() : impl_(new Impl) {
  XXH3_INITSTATE(&impl_->state);
  XXH3_128bits_reset(&impl_->state);
}
Digest::Digest(Digest&&) noexcept = default;
Digest& Digest::operator=(Digest&&) noexcept = default;
Digest::~Digest() = default;

void Digest::update(std::span<const std::byte> bytes) {
  XXH3_128bits_update(&impl_->state, bytes.data(), bytes.size());
}

std::string Digest::hex() const {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(&impl_->state));
  std::string text;
  for (const unsigned char byte : canonical.digest)
    for (const int half : {byte >> 4, byte & 15}) text += "0123456789abcdef"[half];
  return text;
}

FileDigest digest_of(const std::string& content) {
  Digest digest;
  digest.update(std::as_bytes(std::span(content)));
  return {static_cast<Index>(content.size()), digest.hex()};
}

FileDigest digest_of_file(const std::filesystem::path& path) {
  constexpr std::size_t kBlock = 1 << 20;
  const InputFile file(path);
  std::vector<std::byte> block(kBlock);
  Digest digest;
  Index bytes = 0;
  for (std::size_t got = kBlock; got == kBlock; bytes += static_cast<Index>(got)) {
    got = file.read_at(bytes, block);
    digest.update(std::span(block).first(got));
  }
  return {bytes, digest.hex()};
}

}  // namespace plasmid
