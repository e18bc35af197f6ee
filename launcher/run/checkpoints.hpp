#pragma once
#include <string>
#include <utility>
#include <vector>

#include "launcher/job/job.hpp"
#include "parallel/checkpoint/reader.hpp"
#include "parallel/checkpoint/state.hpp"
#include "parallel/comm/communicator.hpp"
#include "runtime/data/corpus.hpp"

namespace plasmid {

using FieldValues = std::vector<std::pair<std::string, std::string>>;  // by path

// What two parts of one run must have in common: the fields of the job, and what the job cannot tell of its data and of
// the model that it started from. Everything else may change between them: rates, steps, mesh, micro-batches,
// recomputation.
FieldValues fields_to_match(const Job&);
// Reads the corpus and model.from for their digests (corpus_digest.hpp, model_digest.hpp); errors as those.
FieldValues inputs_to_match(const Job&, Corpus&, Index windows);

// The checkpoints of one run, on all its ranks: the one that it goes on from, and those that it writes.
class RunCheckpoints {
 public:
  // Collective. `continues` (equal on all ranks): the run directory holds a run, so the newest good one is looked for.
  // Throws Refusal: find_checkpoint's Error, and Error{data} where there are checkpoints and none is good, for a run is
  // not started over what may be weeks of it.
  RunCheckpoints(const Job&, Communicator& ranks, bool continues);

  Index step() const { return newest_; }                          // of the newest good one; 0: there is none
  const std::vector<std::string>& news() const { return news_; }  // a line for each that was passed over
  std::filesystem::path path() const;                             // of the newest

  // Throws Error{config} naming the first field that differs from the checkpoint, with both values.
  void require_match(const FieldValues&) const;

  void load(const TrainingState&) const;  // Error{data}; talks to no other rank

  // Collective. Returns why it is not in place, on all ranks; empty when it is.
  std::string save(Index step, const TrainingState&, const FieldValues& data);

 private:
  const Job& job_;
  Communicator& ranks_;
  std::filesystem::path folder_;
  CheckpointSearch found_;
  std::vector<std::string> news_;
  Index newest_ = 0;
};

}  // namespace plasmid
