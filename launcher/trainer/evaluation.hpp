#pragma once
#include <functional>
#include <optional>

#include "attention/model/language_model.hpp"
#include "launcher/job/data_fields.hpp"
#include "launcher/job/job_file.hpp"
#include "parallel/dp/gradients.hpp"
#include "parallel/mesh/process_mesh.hpp"
#include "runtime/data/loader.hpp"
#include "runtime/telemetry/step_record.hpp"

namespace plasmid {

struct ForwardParts {  // borrowed for one evaluation: a model, its weights, and where a forward works
  LanguageModel& model;
  ParameterStore& weights;
  Arena& saved;
  Arena& scratch;
  Stream& stream;
};

// The loss of a corpus that is not trained on: every window once, in order and as it stands in the files, each counted
// label once. The windows are dealt to the groups of dp in equal stretches, whatever their number, and cut over cp as
// in training. Nothing is kept for a backward, and nothing that training reads is changed.
class Evaluation {
 public:
  Evaluation(const v1::Job&, ProcessMesh&, Corpus& held_out);  // all borrowed
  Index windows() const { return loader_.windows(); }

  Index pass_bytes(const LanguageModel&) const;  // at most what a forward takes of this rank's arenas

  // Collective over the mesh. Sums over all ranks' labels, equal on all ranks, of the same bits on the same layout;
  // nothing when any rank's `stops` (called between passes) said so.
  std::optional<LossSums> run(const ForwardParts&, const std::function<bool()>& stops);

  // As metrics.jsonl has it.
  EvaluationRecord record(const LossSums&, Index step, Index tokens, double seconds) const;

 private:
  void pass(const ForwardParts&, Range windows, LossSums&);

  const v1::Job& job_;
  ProcessMesh& mesh_;
  Loader loader_;
  Index label_bytes_ = 0;  // of all counted labels, where tokens differ in length
};

// "held out: loss 1.3512 nats  1.9494 bits/base  over 231583 bases in 3.2 s"
std::string describe(const EvaluationRecord&, const v1::Data&);

}  // namespace plasmid
