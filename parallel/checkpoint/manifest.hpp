#pragma once
#include <filesystem>
#include <vector>

#include "proto/checkpoint.pb.h"
#include "runtime/base/index.hpp"

// A checkpoint's place on disk and what its manifest says. Nothing here talks to another rank.
//   checkpoints/step-N/            a whole one: a Hugging Face directory, and what training needs besides
//     model.safetensors            all weights
//     config.json
//     optimizer-00000-of-00002.safetensors ...   the moments, an even share of the flat store each
//     manifest.json
//     manifest.xxh128              its digest, as `xxh128sum` writes it
//   checkpoints/.step-N.partial/   one that is being written, or that a crash left, or that is being removed
namespace plasmid {

inline constexpr Index kCheckpointFormat = 1;
inline constexpr const char* kWeightsFile = "model.safetensors";

std::filesystem::path checkpoint_path(const std::filesystem::path& checkpoints, Index step);
std::filesystem::path partial_path(const std::filesystem::path& checkpoints, Index step);

// The steps that have a folder, ascending; none where the folder is not there. Throws Error{io} where it cannot be
// read.
std::vector<Index> checkpoint_steps(const std::filesystem::path& checkpoints);
std::vector<std::filesystem::path> partial_checkpoints(const std::filesystem::path& checkpoints);

// The caller syncs the folder.
void write_manifest(const std::filesystem::path& checkpoint, const v1::CheckpointManifest&);

// Throws Error{no_input | data} naming the file and what is wrong with it: a manifest that is missing, damaged, of
// another format, or that could not have been written here. Its own digest is checked, those of its files are not.
v1::CheckpointManifest read_manifest(const std::filesystem::path& checkpoint);

// Reads every file and compares length and digest. Throws Error{no_input | data | io} naming the first that differs.
void verify_file(const std::filesystem::path& checkpoint, const v1::CheckpointFile&);
void verify_files(const std::filesystem::path& checkpoint, const v1::CheckpointManifest&);

Index total_bytes(const v1::CheckpointManifest&);  // of its files

}  // namespace plasmid
