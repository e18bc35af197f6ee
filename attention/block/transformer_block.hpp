#pragma once
#include <memory>

#include "runtime/nn/module.hpp"

namespace plasmid {

// The block of every pre-norm transformer:  h = x + attention(attention_norm(x));  y = h + mlp(mlp_norm(h)).
// x, y [tokens, width] f32. The second half treats every token alone and runs tile by tile. `dropout`: of both
// branches before they are added.
struct BlockParts {
  std::unique_ptr<Module> attention_norm, attention, mlp_norm, mlp;
  double dropout = 0;
};
std::unique_ptr<Module> make_transformer_block(BlockParts);

}  // namespace plasmid
