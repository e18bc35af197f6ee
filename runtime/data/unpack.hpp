#pragma once
#include <filesystem>
#include <memory>

#include "runtime/data/bytes.hpp"

namespace plasmid {

// The unpacked content of a gzip file, kept in a file of the folder `cache` and unpacked again only when the packed
// file's path, size or time of change differ, or when the kept file was cut short. Processes may race: one unpacks
// while the others wait, and a kept file appears whole or not at all. Throws Error{data} for truncated or damaged gzip,
// Error{cannot_create | io} naming the cache.
std::unique_ptr<Bytes> unpacked_bytes(const InputFile& packed, const std::filesystem::path& cache);

// Where unpacked files go when a job names no folder: $XDG_CACHE_HOME/plasmid, else ~/.cache/plasmid, else a folder of
// this user among the temporary files.
std::filesystem::path default_cache();

}  // namespace plasmid
