#pragma once
#include "launcher/trainer/trainer.hpp"

namespace plasmid::bench {

// Whether a step of this job is right, found out at windows of at most `tokens`, with the trainer alone. Collective.
//   backward  a move of the weights along the gradient by +h and by -h changes the loss by what the gradient's norm
//             says, up to the error that the same difference at 2 h tells of (Richardson) and the rounding of the loss
//   update    moments and weights of the first step are AdamW's, in f64, from the gradient that the first moment holds
// Throws Refusal with Error{software}'s status naming what is wrong, and what Trainer throws.
void check_step(const Job&, ProcessMesh&, Corpus&, Index tokens, Index available_bytes);

}  // namespace plasmid::bench
