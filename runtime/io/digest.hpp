#pragma once
#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "runtime/base/index.hpp"

namespace plasmid {

// XXH3-128 of bytes as they come. It finds damage, not malice.
class Digest {
 public:
  Digest();
  Digest(Digest&&) noexcept;
  Digest& operator=(Digest&&) noexcept;
  ~Digest();
  void update(std::span<const std::byte>);
  std::string hex() const;  // of all so far: 32 digits, as `xxh128sum` prints them

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

struct FileDigest {
  Index bytes = 0;
  std::string xxh3_128;
  bool operator==(const FileDigest&) const = default;
};

FileDigest digest_of(const std::string& content);
FileDigest digest_of_file(const std::filesystem::path&);  // errors as InputFile

}  // namespace plasmid
