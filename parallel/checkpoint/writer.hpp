#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "parallel/checkpoint/state.hpp"
#include "parallel/comm/communicator.hpp"
#include "proto/checkpoint.pb.h"

namespace plasmid {

struct CheckpointRequest {
  v1::CheckpointManifest about;              // all but format_version and files
  std::map<std::string, std::string> texts;  // further files, by name: config.json
  Index keep = 1;                            // good ones up to this step that stay, this one included; at least 1
  std::vector<Index> damaged;                // steps of checkpoints to put aside once this one is in place
};

// Collective. Writes checkpoints/step-N: rank 0 the weights, each rank an even share of both moments, rank 0 the
// manifest last. All of it under a temporary name first, each file and folder synced, then renamed; only then are older
// checkpoints removed: those of this run, by must_match, whose manifest is whole and whose files have their lengths.
// Whatever else lies there stays, what stands in this one's place or is `damaged` under the name of aside_path. The
// state is equal on all ranks and its moments are whole.
//
// Returns, equal on all ranks, why there is no such checkpoint: no space (asked before anything is written), or
// anything that failed on any rank. The folder then holds what it held before. Empty: the checkpoint is in place.
std::string save_checkpoint(Communicator& ranks, const std::filesystem::path& checkpoints, const CheckpointRequest&,
                            const TrainingState&);

// Throws Error{io} naming both numbers where the file system of the folder has less free.
void require_free_bytes(const std::filesystem::path& folder, Index bytes);

// Which floats of a store of `size` rank `rank` of `ranks` writes: whole 64-byte lines.
Range even_share(Index size, int ranks, int rank);

}  // namespace plasmid
