#include "launcher/run/model_digest.hpp"

#include <algorithm>
#include <vector>

#include "runtime/base/error.hpp"
#include "runtime/io/digest.hpp"
#include "runtime/io/file.hpp"

namespace plasmid {
namespace {

namespace fs = std::filesystem;
constexpr Index kWhole = 1 << 24, kBlocks = 1024, kBlock = 4096;

std::vector<fs::path> files_of(const fs::path& directory) {
  std::error_code problem;
  std::vector<fs::path> files;
  fs::directory_iterator entry(directory, problem);
  for (; !problem && entry != fs::directory_iterator(); entry.increment(problem))
    if (entry->path().filename() == "config.json" || entry->path().extension() == ".safetensors")
      files.push_back(entry->path());
  if (problem) throw Error(ErrorCode::no_input, directory.string() + ": cannot be read: " + problem.message());
  std::ranges::sort(files);
  return files;
}

void add_file(Digest& digest, const fs::path& path) {
  const InputFile file(path);
  const std::string head = path.filename().string() + '\n' + std::to_string(file.size()) + '\n';
  digest.update(std::as_bytes(std::span(head)));
  const bool whole = file.size() <= kWhole;
  const Index blocks = whole ? (file.size() + kBlock - 1) / kBlock : kBlocks, last = file.size() - kBlock;
  std::vector<std::byte> block(kBlock);
  for (Index i = 0; i < blocks; ++i) {
    const Index at = whole ? i * kBlock : last / (kBlocks - 1) * i + last % (kBlocks - 1) * i / (kBlocks - 1);
    digest.update(std::span(block).first(file.read_at(at, block)));
  }
}

}  // namespace

std::string model_digest(const fs::path& directory) {
  Digest digest;
  for (const fs::path& path : files_of(directory)) add_file(digest, path);
  return digest.hex();
}

}  // namespace plasmid
