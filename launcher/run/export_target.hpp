#pragma once
#include <filesystem>
#include <vector>

namespace plasmid {

// A directory that appears whole or not at all. One that is not there yet is made under a hidden name beside it and
// renamed; into an empty one, which may be a mount point or somebody's working directory, files are moved from a hidden
// folder inside, in the order in which they were added. Without commit() nothing stays.
class ExportTarget {
 public:
  // Throws Error{cannot_create}: it holds something, or cannot be made.
  explicit ExportTarget(const std::filesystem::path& to);
  ExportTarget(const ExportTarget&) = delete;
  ExportTarget& operator=(const ExportTarget&) = delete;
  ~ExportTarget();

  const std::filesystem::path& hidden() const { return hidden_; }
  std::filesystem::path add(const std::string& name);  // where to write the file until commit
  void commit();                                       // Error{io}

 private:
  std::filesystem::path to_, hidden_;
  bool inside_ = false;
  std::vector<std::string> names_;
  std::vector<std::filesystem::path> moved_;
};

// Throws Error{cannot_create} unless it is not there, or an empty directory.
void require_empty(const std::filesystem::path& to);

}  // namespace plasmid
