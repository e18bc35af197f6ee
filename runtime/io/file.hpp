#pragma once
#include <unistd.h>

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

#include "runtime/base/index.hpp"
#include "runtime/base/unique_handle.hpp"

namespace plasmid {

struct DescriptorTraits {
  static int empty() { return -1; }
  static void close(int descriptor) noexcept { ::close(descriptor); }
};
using Descriptor = UniqueHandle<int, DescriptorTraits>;

// A regular file read by range. Reads are positioned, so threads may share one. Throws, naming the path,
// Error{no_input} where it is missing or no regular file (a pipe is refused, not waited for), Error{io} where it may
// not or cannot be read, Error{memory} where the system has no memory or descriptors left.
class InputFile {
 public:
  explicit InputFile(std::filesystem::path);
  const std::filesystem::path& path() const { return path_; }
  Index size() const { return size_; }  // when it was opened
  int descriptor() const { return descriptor_.get(); }
  InputFile again() const;  // the same open file, whatever its path leads to by now
  // Fills `to` from `offset` on; returns the bytes read, fewer only where the file ends.
  std::size_t read_at(Index offset, std::span<std::byte> to) const;

 private:
  InputFile() = default;
  std::filesystem::path path_;
  Descriptor descriptor_;
  Index size_ = 0;
};

// A whole file in the address space, read-only and shared with other processes that map it.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path&);  // errors as InputFile
  MappedFile(MappedFile&&) noexcept;
  MappedFile& operator=(MappedFile&&) noexcept;
  ~MappedFile();
  std::span<const std::byte> bytes() const { return bytes_; }  // starts on a page

 private:
  std::span<const std::byte> bytes_;
};

enum class FolderSync { now, later };  // later: the caller syncs the folder once for many files

// A file written whole or not at all: bytes go to a temporary name in the same folder; commit() syncs them, renames and
// syncs the folder. Without commit the temporary file is removed and what stood there before stays. Throws
// Error{cannot_create} where the file cannot be made or would replace a folder, Error{io} where writing fails.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path);
  static std::string temporary_prefix(
      const std::filesystem::path&);  // of the names of the temporary files for this one
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();
  void write(std::span<const std::byte>);
  void write(const std::string& text) { write(std::as_bytes(std::span(text))); }
  void commit(FolderSync = FolderSync::now);
  bool commit_if_absent();  // false: another process was first, and its file stays

 private:
  std::filesystem::path path_, temporary_;
  Descriptor descriptor_;
  std::size_t unsent_ = 0;  // bytes that only the system's cache holds
};

// Bytes of a small file, whole or not at all, in the same way.
void write_file_atomically(const std::filesystem::path&, const std::string& content, FolderSync = FolderSync::now);

// The same where nothing stands there yet; false: something does.
bool create_file_atomically(const std::filesystem::path&, const std::string& content);

// The names in a folder reach the disk. Throws Error{io}.
void sync_folder(const std::filesystem::path&);

// What an unprivileged user may still write to the file system of a folder. Throws Error{io}.
Index free_bytes(const std::filesystem::path& folder);

}  // namespace plasmid
