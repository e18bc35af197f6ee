#pragma once
#include "attention/model/language_model.hpp"
#include "launcher/job/job.hpp"

namespace plasmid {

// What a step of a job asks of the rank that has most to do, told before anything is allocated. Bytes are upper bounds.
struct StepCost {
  Index parameters = 0;                     // of the whole model
  Index tokens = 0;                         // of a pass on this rank
  Index passes = 0;                         // a step
  Index weights = 0;                        // bytes; gradients as many, moments twice
  Index kept = 0, scratch = 0;              // arena bytes of a pass: between forward and backward, and beside
  Index pass = 0;                           // of both at once, an evaluation's included
  double flops = 0;                         // of a step on this rank, recomputing not counted
  double ring_bytes = 0, reduce_bytes = 0;  // sent by this rank in a step: keys, values and theirs; gradients

  Index state() const { return 4 * weights; }  // weights, gradients, two moments
  Index total() const { return state() + pass; }
};

// `model`: the job's, of a rank whose ring has mesh.cp ranks. Threads are those of the present team.
StepCost step_cost(const v1::Job&, LanguageModel& model);

}  // namespace plasmid
