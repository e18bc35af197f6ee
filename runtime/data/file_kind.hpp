#pragma once
#include <cstdint>
#include <filesystem>

namespace plasmid {

enum class FileKind : std::uint8_t { fasta, json_lines, text };

// By extension, in either case and with or without .gz: .fa .fasta .fna are FASTA, .jsonl is JSON Lines, all else is
// text.
FileKind file_kind(std::filesystem::path);

}  // namespace plasmid
