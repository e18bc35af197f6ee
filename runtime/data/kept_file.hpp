#pragma once
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "runtime/base/index.hpp"
#include "runtime/data/cache.hpp"
#include "runtime/io/file.hpp"

namespace plasmid {

// What was derived from a source file, kept in a file of the cache folder: sections of bytes, end to end.
struct KeptFile {
  InputFile file;
  std::vector<Range> sections;
};

// Writes the sections of a kept file, one after another.
class KeptWriter {
 public:
  explicit KeptWriter(AtomicFile& file) : file_(file) {}
  void write(std::span<const std::byte>);
  void end_section();
  std::vector<Index> finish();  // the sections' sizes; all bytes are in the file

 private:
  void flush();
  AtomicFile& file_;
  std::vector<std::byte> waiting_;
  std::vector<Index> sizes_;
  Index size_ = 0;
};

// Finds what `make` derived from `source`, or has it made: again only when the source's path, size or time of change or
// the `variant` (all else that the content depends on) differ, or when the kept file was cut short. The file is named
// by path, variant and suffix. Processes may race: one makes it while the others wait, which `cache.say` hears once,
// and a kept file appears whole or not at all. What a killed process left of this one is removed. Throws what `make`
// throws, Error{data} where the source changes meanwhile, Error{cannot_create | io} naming the cache.
KeptFile keep(const InputFile& source, const Cache& cache, const std::string& variant, const char* suffix,
              const std::function<void(KeptWriter&)>& make);

// Where kept files go when a job names no folder: $XDG_CACHE_HOME/plasmid, else ~/.cache/plasmid, else a folder of this
// user among the temporary files.
std::filesystem::path default_cache();

}  // namespace plasmid
