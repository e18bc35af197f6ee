#pragma once
#include <filesystem>
#include <string>

#include "runtime/io/file.hpp"

namespace plasmid {

// A file of one JSON object a line that a run appends to, and a later run goes on with. Each line is handed to the
// system at once, so a reader sees whole lines only. A last line that a crash tore is cut off when the file is opened;
// one that only lost its end is given it. Throws Error{cannot_create} where the file cannot be opened for writing,
// Error{io} where writing fails; the lines before stay whole.
class JsonLines {
 public:
  explicit JsonLines(std::filesystem::path);
  void append(const std::string& object);  // one line of JSON, without its end
  void sync();                             // all lines so far reach the disk

 private:
  void repair();

  std::filesystem::path path_;
  Descriptor descriptor_;
};

}  // namespace plasmid
