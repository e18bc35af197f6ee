#pragma once
#include <memory>
#include <vector>

#include "attention/model/language_model.hpp"
#include "launcher/job/job.hpp"
#include "launcher/trainer/evaluation.hpp"
#include "parallel/checkpoint/state.hpp"
#include "parallel/cp/partition.hpp"
#include "parallel/dp/gradients.hpp"
#include "parallel/mesh/process_mesh.hpp"
#include "runtime/data/loader.hpp"
#include "runtime/nn/whole_store.hpp"
#include "runtime/optim/optimizer.hpp"

namespace plasmid {

std::unique_ptr<LanguageModel> model_of(const Job&, Communicator& ring);  // borrows the ring: mesh.cp ranks

struct StepResult {  // equal on all ranks
  double loss = 0;   // mean over the counted labels of the whole batch, before the update; NaN when none counts
  Index counted = 0;
  double grad_norm = 0;  // of the mean gradient, before clipping
  double learning_rate = 0;
  bool finite = true;  // false: loss or gradient is not; weights and moments are those before the step
};

// The model of a job, its optimiser and its share of the data on one rank. A step is a pure function of (weights,
// moments, seed, step): the same layout gives the same bits.
//
// The batch's windows are cut over dp (rank r of dp has rows [r, r + 1) * batch / dp), passed micro_batch at a time,
// and each window's tokens are cut over cp in zigzag order. Loss and gradients are sums over counted labels, reduced
// over dp x cp, and divided once by the count of the whole batch.
class Trainer {
 public:
  // Collective over the mesh, which is borrowed as the corpus is. Throws Error{memory} where the bytes that a step
  // takes pass `available_bytes` of this rank.
  Trainer(const Job&, ProcessMesh&, Corpus&, Index available_bytes);

  void initialize();            // the job's seed, or the weights of model.from; Error{no_input | data}
  StepResult step(Index step);  // collective; from 1. A batch without a counted label changes nothing

  Index parameters() const { return parameter_count_; }
  Index step_bytes() const { return step_bytes_; }  // an upper bound, weights included; evaluation keeps to it
  Ledger& ledger() { return ledger_; }
  WholeStore& store() { return *store_; }
  ForwardParts forward_parts() { return {*model_, *store_, saved_, scratch_, stream_}; }
  TrainingState state();  // weights and moments, to save or to load into
  const Loader& loader() const { return loader_; }

 private:
  struct Run {  // neighbours in the flat store that all decay, or all do not
    Range range;
    bool decays = false;
  };
  void check_memory(Index available_bytes);
  void find_runs();
  void pass(Index step, Index first_row, LossSums&);
  void update(Index step, const StepResult&);

  const Job& job_;
  ProcessMesh& mesh_;
  Loader loader_;
  Shards shards_;
  Stream stream_;
  Ledger ledger_;
  Arena pool_, saved_, scratch_;
  std::unique_ptr<LanguageModel> model_;
  std::unique_ptr<WholeStore> store_;
  Buffer first_moment_, second_moment_;
  std::vector<Run> runs_;
  Batch batch_;  // the pass at work's; its memory serves the next
  Index parameter_count_ = 0, step_bytes_ = 0;
};

}  // namespace plasmid
