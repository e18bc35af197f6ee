#pragma once
#include <filesystem>
#include <string>

namespace plasmid {

// XXH3-128 of a Hugging Face directory's config.json and .safetensors files: their names, lengths and bytes, or of 1024
// blocks of 4096 bytes, evenly spread with both ends, of a file longer than 2^24. Another directory of the same files
// has the same. Throws Error{no_input | io} naming the path.
std::string model_digest(const std::filesystem::path& directory);

}  // namespace plasmid
