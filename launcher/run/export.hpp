#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "runtime/base/index.hpp"

namespace plasmid {

// What `plasmid checkpoint` does to the run directory of a run; one process, no ranks. All throw Error{no_input} where
// there is no run, or no checkpoint in it.

struct CheckpointLine {
  Index step = 0;
  std::string text;
  bool good = true;
};

// A line for each checkpoint, oldest first: by its manifest alone, or with every byte read.
std::vector<CheckpointLine> list_checkpoints(const std::filesystem::path& run);
std::vector<CheckpointLine> verify_checkpoints(const std::filesystem::path& run);

// Copies the weights and the configuration of a checkpoint (step 0: the newest whose two are whole) into a Hugging Face
// directory that is not there yet or is empty, and reads the copy back; whole or not at all. Returns the step. Throws
// Error{cannot_create} where the directory holds something, Error{data} where the checkpoint is damaged.
Index export_checkpoint(const std::filesystem::path& run, Index step, const std::filesystem::path& to);

}  // namespace plasmid
