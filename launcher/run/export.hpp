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
  int status = 0;  // the exit status that it asks for: 65 damaged, 74 not to be read, 78 of a newer format
};

// A line for each checkpoint, oldest first, by its manifest alone, or with every byte read; listed are also those that
// were put aside. A running job may remove old ones meanwhile: they are left out.
std::vector<CheckpointLine> list_checkpoints(const std::filesystem::path& run);
std::vector<CheckpointLine> verify_checkpoints(const std::filesystem::path& run);

// Copies the weights, the configuration and the tokenizer.json, if the run has one, of a checkpoint (step 0: the newest
// whose two are whole) into a Hugging Face directory that is not there yet or is empty; whole or not at all, and
// compared with the manifest's digests on the way and on the disk. Returns the step. Throws Error{cannot_create} where
// the directory holds something or cannot be made, Error{data} where the checkpoint is damaged, Error{no_input} where
// it is not there, Error{config} naming a field that `transformers` has no word for.
Index export_checkpoint(const std::filesystem::path& run, Index step, const std::filesystem::path& to);

}  // namespace plasmid
