#include "launcher/trainer/step_cost.hpp"

#include <algorithm>
#include <set>

#include "parallel/cp/partition.hpp"
#include "runtime/nn/whole_store.hpp"

namespace plasmid {
namespace {

Index largest_share(Index windows, const v1::Job& job) {
  Index most = 0;
  for (const auto& owned :
       make_shards(windows, job.data().sequence_length(), static_cast<int>(job.mesh().cp()), Layout::zigzag))
    most = std::max(most, token_count(owned));
  return most;
}

Cost cost_of(LanguageModel& model, Index tokens, Keep keep) {
  const TensorSpec in[] = {{{tokens}, DType::i32}, {{tokens}, DType::i32}};
  return model.cost(in, keep);
}

}  // namespace

StepCost step_cost(const v1::Job& job, LanguageModel& model) {
  StepCost step;
  std::set<const Parameter*> seen;
  model.parameters([&](const ParameterPtr& parameter) {
    if (seen.insert(parameter.get()).second) step.parameters += parameter->shape.count();
  });
  step.weights = arena_bytes({{WholeStore::floats(model)}});
  step.tokens = largest_share(job.train().micro_batch(), job);
  step.passes = job.train().batch() / job.mesh().dp() / job.train().micro_batch();
  const Cost pass = cost_of(model, step.tokens, Keep::all);
  step.kept = pass.saved, step.scratch = pass.scratch;
  step.pass = std::max(pass.together(), cost_of(model, step.tokens, Keep::nothing).together());

  // Attention's share grows with the square of one window, not of a pass.
  const auto windows = static_cast<double>(step.passes * job.train().micro_batch());
  step.flops = windows * cost_of(model, largest_share(1, job), Keep::all).flops;
  step.ring_bytes = static_cast<double>(step.passes) * pass.wire_bytes;
  const auto ranks = static_cast<double>(job.mesh().dp()) * static_cast<double>(job.mesh().cp());
  step.reduce_bytes = 2 * (ranks - 1) / ranks * static_cast<double>(step.weights);
  return step;
}

}  // namespace plasmid
