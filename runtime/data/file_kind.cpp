#include "runtime/data/file_kind.hpp"

#include <algorithm>
#include <cctype>
#include <string>

namespace plasmid {

FileKind file_kind(std::filesystem::path path) {
  const auto lower_extension = [&] {
    std::string text = path.extension().string();
    std::ranges::transform(text, text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return text;
  };
  if (lower_extension() == ".gz") path.replace_extension();
  const std::string extension = lower_extension();
  if (extension == ".jsonl") return FileKind::json_lines;
  return extension == ".fa" || extension == ".fasta" || extension == ".fna" ? FileKind::fasta : FileKind::text;
}

}  // namespace plasmid
