#include "attention/block/transformer_block.hpp"

#include "runtime/nn/pre_norm.hpp"
#include "runtime/nn/sequence.hpp"
#include "runtime/nn/tiled.hpp"

namespace plasmid {
namespace {

constexpr Index kTile = 1024;  // tokens: products stay large, temporaries do not grow with the sequence

}  // namespace

std::unique_ptr<Module> make_transformer_block(BlockParts parts) {
  std::vector<std::unique_ptr<Module>> halves;
  halves.push_back(std::make_unique<PreNorm>(std::move(parts.attention_norm), std::move(parts.attention)));
  halves.push_back(
      std::make_unique<Tiled>(std::make_unique<PreNorm>(std::move(parts.mlp_norm), std::move(parts.mlp)), kTile));
  return std::make_unique<Sequence>(std::move(halves));
}

}  // namespace plasmid
