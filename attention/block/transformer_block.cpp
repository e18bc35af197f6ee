#include "attention/block/transformer_block.hpp"

#include "runtime/nn/dropped.hpp"
#include "runtime/nn/pre_norm.hpp"
#include "runtime/nn/sequence.hpp"
#include "runtime/nn/tiled.hpp"

namespace plasmid {
namespace {

// Tokens: products stay large, temporaries do not grow with the sequence. Of whole row panels, and an even number of
// them (matmul.hpp).
constexpr Index kTile = 1056;

}  // namespace

std::unique_ptr<Module> make_transformer_block(BlockParts parts) {
  std::vector<std::unique_ptr<Module>> halves;
  auto attention = dropped(std::move(parts.attention), parts.dropout, DropoutPlace::attention_output);
  auto mlp = dropped(std::move(parts.mlp), parts.dropout, DropoutPlace::mlp_output);
  halves.push_back(std::make_unique<PreNorm>(std::move(parts.attention_norm), std::move(attention)));
  halves.push_back(
      std::make_unique<Tiled>(std::make_unique<PreNorm>(std::move(parts.mlp_norm), std::move(mlp)), kTile));
  return std::make_unique<Sequence>(std::move(halves));
}

}  // namespace plasmid
