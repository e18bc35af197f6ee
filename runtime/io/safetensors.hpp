#pragma once
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/base/shape.hpp"
#include "runtime/io/digest.hpp"
#include "runtime/io/file.hpp"
#include "runtime/tensor/view.hpp"

namespace plasmid {

// The safetensors format (header: u64 little-endian length, JSON of name -> dtype, shape, data_offsets; then the
// bytes). Files are read as hostile: sizes, overlaps, holes, overflow, duplicate names and deep JSON are refused.
class SafetensorsFile {
 public:
  // Maps the file read-only. Throws Error{no_input} where it is not there, Error{data} naming the file and the entry.
  explicit SafetensorsFile(const std::filesystem::path&);
  ~SafetensorsFile();
  SafetensorsFile(SafetensorsFile&&) noexcept;
  SafetensorsFile& operator=(SafetensorsFile&&) noexcept;

  std::vector<std::string> names() const;  // sorted
  bool contains(const std::string& name) const;
  // Borrowed from the mapping, or from an aligned copy where the file keeps it askew; lives as long as this object.
  // F64 F32 BF16 I64 I32 U16 U8; any other dtype (F16 is one), more than Shape::kMaxRank dims, or a name that is not
  // there throw Error{data}.
  ConstView tensor(const std::string& name) const;
  const std::map<std::string, std::string>& metadata() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Writes `path` whole or not at all (see AtomicFile). Contiguous host tensors, any dtype but q32; names in UTF-8.
// Returns the file's length and digest. Throws Error{io} or Error{cannot_create} naming the path; what stood there
// before stays.
FileDigest write_safetensors(const std::filesystem::path&, const std::map<std::string, ConstView>& tensors,
                             const std::map<std::string, std::string>& metadata = {}, FolderSync = FolderSync::now);

}  // namespace plasmid
