#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "parallel/checkpoint/state.hpp"
#include "parallel/comm/communicator.hpp"
#include "proto/checkpoint.pb.h"

namespace plasmid {

struct CheckpointSearch {        // equal on all ranks
  std::filesystem::path folder;  // empty: there is no good checkpoint
  v1::CheckpointManifest manifest;
  std::vector<Index> damaged;       // newer steps that were passed over
  std::vector<std::string> damage;  // and why, a line each
};

// Collective. The newest checkpoint whose manifest and files are whole on every rank: each reads them all. One that is
// proven to be damaged is passed over. Throws, equal on all ranks, Error{io | memory} where the folder or a checkpoint
// cannot be read, and Error{config} at one of a newer format: these may be good, and no older one takes their place. A
// folder that is not there holds no checkpoint.
CheckpointSearch find_checkpoint(Communicator& ranks, const std::filesystem::path& checkpoints);

// Fills the state from a checkpoint that find_checkpoint found, whatever ranks wrote it: the weights, and of the
// moments the range that the state holds; files without a part of it are not opened. Talks to no other rank. Throws
// Error{data} naming file and tensor: one that the model does not have, or that the files do not cover exactly once.
void load_checkpoint(const std::filesystem::path& checkpoint, const v1::CheckpointManifest&, const TrainingState&);

}  // namespace plasmid
