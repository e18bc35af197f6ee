#pragma once
#include <filesystem>
#include <vector>

#include "proto/checkpoint.pb.h"
#include "runtime/base/error.hpp"
#include "runtime/base/index.hpp"

// A checkpoint's place on disk and what its manifest says. Nothing here talks to another rank.
//   checkpoints/step-N/            a whole one: a Hugging Face directory, and what training needs besides
//     model.safetensors            all weights
//     config.json
//     optimizer-00000-of-00002.safetensors ...   the moments, an even share of the flat store each
//     manifest.json
//     manifest.xxh128              its digest, as `xxh128sum` writes it
//   checkpoints/.step-N.partial/   one that is being written, or that a crash left, or that is being removed
//   checkpoints/step-N.aside       a damaged one that gave its place to a new one; nothing here reads or removes it
namespace plasmid {

inline constexpr Index kCheckpointFormat = 1;
inline constexpr const char* kWeightsFile = "model.safetensors";

std::filesystem::path checkpoint_path(const std::filesystem::path& checkpoints, Index step);
std::filesystem::path partial_path(const std::filesystem::path& checkpoints, Index step);

// A name that is free for the checkpoint of that step: step-N.aside, step-N.aside-2, ...
std::filesystem::path aside_path(const std::filesystem::path& checkpoints, Index step);

// The steps that have a folder, ascending; none where the folder is not there. Throws Error{io} where it cannot be
// read.
std::vector<Index> checkpoint_steps(const std::filesystem::path& checkpoints);
std::vector<std::filesystem::path> partial_checkpoints(const std::filesystem::path& checkpoints);
std::vector<std::filesystem::path> checkpoints_aside(const std::filesystem::path& checkpoints);

// The caller syncs the folder.
void write_manifest(const std::filesystem::path& checkpoint, const v1::CheckpointManifest&);

// Throws, naming the file and what is wrong with it, Error{no_input | data}: a manifest that is missing, damaged, or
// that could not have been written here; Error{config} for one of a newer format; Error{io | memory} as InputFile. Its
// own digest is checked, those of its files are not.
v1::CheckpointManifest read_manifest(const std::filesystem::path& checkpoint);

// Reads every file and compares length and digest. Throws Error{no_input | data} naming the first that differs, and
// Error{io | memory} where one cannot be read.
void verify_file(const std::filesystem::path& checkpoint, const v1::CheckpointFile&);
void verify_files(const std::filesystem::path& checkpoint, const v1::CheckpointManifest&);

// Whether an error of the above proves that the checkpoint is not what was written. Of one that could not be read, or
// is of a newer format, nothing is known.
bool proves_damage(const Error&);

Index total_bytes(const v1::CheckpointManifest&);  // of its files

}  // namespace plasmid
