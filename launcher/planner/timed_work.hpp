#pragma once
#include "attention/model/language_model.hpp"
#include "launcher/planner/rates.hpp"

// Short runs of what a step consists of, by the present team; wall seconds, the median of five.
namespace plasmid {

// The kernel on `tokens` queries by as many keys, all seen, with as many of the model's heads as take a moment.
PairTime time_attention(const ModelShape&, Index tokens);

// Forward and backward of the model over one causal window; its weights are made for it.
double layer_seconds(const ModelShape&, Index tokens);

double optimizer_bytes_per_second();  // of AdamW over arrays beyond the caches: four streams read, four written

}  // namespace plasmid
