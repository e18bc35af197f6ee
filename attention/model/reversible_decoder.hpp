#pragma once
#include <memory>
#include <vector>

#include "attention/block/lsh_self_attention.hpp"
#include "attention/block/self_attention.hpp"
#include "attention/model/language_model.hpp"
#include "runtime/nn/loss_head.hpp"
#include "runtime/nn/reversible.hpp"

namespace plasmid {

// A causal language model of reversible layers (Kitaev et al. 2020): both streams start as the embedding, and the head
// reads them side by side. All but the layers goes tile by tile of tokens, so that beside the two streams and, in
// backward, their gradients, memory grows with what one branch needs.
struct ReversibleDecoderParts {
  std::unique_ptr<Module> embedding;  // tokens -> [tokens, width]
  ReversibleStack stack;
  std::unique_ptr<Module> norm;                         // [tokens, 2 width]
  std::unique_ptr<LossHead> head;                       // reads [tokens, 2 width]
  std::vector<std::shared_ptr<AttentionGroup>> groups;  // that dense and local layers attend in
  std::shared_ptr<LshGroup> lsh;                        // that LSH layers do; null: there are none
  Keep keep = Keep::decisions;                          // what branches keep between forward and backward
  FixedPoint format = {};                               // of the streams
  Index tile = 1024;                                    // tokens
};
std::unique_ptr<LanguageModel> make_reversible_decoder(const ModelShape&, ReversibleDecoderParts);

}  // namespace plasmid
