#include "tests/support/reversible_layers.hpp"

#include "runtime/nn/dropped.hpp"
#include "runtime/nn/mlp.hpp"
#include "runtime/nn/norm.hpp"
#include "runtime/nn/normed.hpp"

namespace plasmid::test {

std::vector<Branches> branch_modules(const ReversibleShape& shape, Communicator& ring, Index first) {
  const auto group = make_attention_group(ring, Pattern::causal());
  const AffineOptions plain{.deviation = 0.2f};
  std::vector<Branches> layers;
  for (Index i = first; i < first + shape.layers; ++i) {
    const std::string name = std::string("layers.") + std::to_string(i) + ".";
    SelfAttentionOptions options{
        .heads = shape.heads, .kv_heads = shape.heads, .head_dim = shape.width / shape.heads, .dropout = shape.dropout};
    for (const char* part : {"attn.q", "attn.k", "attn.v"})
      options.inputs.push_back(make_affine(name + part, shape.width, shape.width, plain));
    options.output = make_affine(name + "attn.out", shape.width, shape.width, plain);
    auto attention = std::make_unique<Normed>(std::make_unique<LayerNorm>(name + "norm1", shape.width, 1e-5f),
                                              dropped(std::make_unique<SelfAttention>(std::move(options), group),
                                                      shape.dropout, DropoutPlace::attention_output));
    auto mlp = std::make_unique<Normed>(
        std::make_unique<LayerNorm>(name + "norm2", shape.width, 1e-5f),
        dropped(std::make_unique<Mlp>(make_affine(name + "ffn.in", shape.width, shape.hidden, plain),
                                      ops::Activation::gelu_erf,
                                      make_affine(name + "ffn.out", shape.hidden, shape.width, plain)),
                shape.dropout, DropoutPlace::mlp_output));
    layers.push_back({std::move(attention), std::move(mlp)});
  }
  return layers;
}

std::vector<ReversibleStack::Layer> reversible_layers(const ReversibleShape& shape, Communicator& ring, Index first) {
  std::vector<ReversibleStack::Layer> layers;
  for (Branches& branches : branch_modules(shape, ring, first)) {
    const std::string name = std::string("layer ") + std::to_string(first + static_cast<Index>(layers.size()));
    layers.push_back({make_whole_branch(name + ", attention", std::move(branches.attention), shape.format),
                      make_tiled_branch(name + ", feed-forward", std::move(branches.mlp), shape.tile, shape.format)});
  }
  return layers;
}

}  // namespace plasmid::test
