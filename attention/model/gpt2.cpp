// GPT-2 (Radford et al. 2019), with the names and layouts of Hugging Face's GPT2LMHeadModel: learned positions, layer
// norms, one fused projection for q, k and v, weights stored [in, out], tanh GELU. Dropout, one probability, of the
// embeddings' sum, the attention weights, and both branches.
#include <cmath>
#include <nlohmann/json.hpp>

#include "attention/block/transformer_block.hpp"
#include "attention/model/family.hpp"
#include "runtime/base/error.hpp"
#include "runtime/nn/dropped.hpp"
#include "runtime/nn/embedding.hpp"
#include "runtime/nn/mlp.hpp"
#include "runtime/nn/norm.hpp"

namespace plasmid {
namespace {

constexpr float kDeviation = 0.02f;

void complete_gpt2(ModelShape& shape) {
  if (shape.mlp_width == 0) shape.mlp_width = 4 * shape.width;
  if (shape.kv_heads != shape.heads)
    throw Error(ErrorCode::config, "model.kv_heads = " + std::to_string(shape.kv_heads) +
                                       ": GPT2 has no grouped heads; model.heads = " + std::to_string(shape.heads));
}

std::unique_ptr<Module> make_block(const ModelShape& shape, Index layer, const std::shared_ptr<AttentionGroup>& group) {
  const std::string name = "transformer.h." + std::to_string(layer) + ".";
  const Index width = shape.width;
  const AffineOptions plain{ops::WeightLayout::in_out, true, kDeviation};
  // The residual stream is a sum of 2 * layers branches: each starts smaller, so that its variance does not grow.
  AffineOptions residual = plain;
  residual.deviation /= std::sqrt(2 * static_cast<float>(shape.layers));

  SelfAttentionOptions attention{
      .heads = shape.heads, .kv_heads = shape.heads, .head_dim = shape.head_dim(), .dropout = shape.dropout};
  attention.inputs = {make_affine(name + "attn.c_attn", width, 3 * width, plain)};
  attention.output = make_affine(name + "attn.c_proj", width, width, residual);
  return make_transformer_block(
      {.attention_norm = std::make_unique<LayerNorm>(name + "ln_1", width, shape.norm_epsilon),
       .attention = std::make_unique<SelfAttention>(std::move(attention), group),
       .mlp_norm = std::make_unique<LayerNorm>(name + "ln_2", width, shape.norm_epsilon),
       .mlp = std::make_unique<Mlp>(make_affine(name + "mlp.c_fc", width, shape.mlp_width, plain),
                                    ops::Activation::gelu_tanh,
                                    make_affine(name + "mlp.c_proj", shape.mlp_width, width, residual)),
       .dropout = shape.dropout});
}

DecoderParts build_gpt2(const ModelShape& shape, const std::shared_ptr<AttentionGroup>& group) {
  const Shape table{shape.vocabulary, shape.width};
  const ParameterPtr tokens = make_parameter("transformer.wte.weight", table, {0, kDeviation});
  DecoderParts parts;
  parts.embedding =
      dropped(std::make_unique<Embedding>(
                  tokens, make_parameter("transformer.wpe.weight", {shape.positions, shape.width}, {0, kDeviation})),
              shape.dropout, DropoutPlace::embedding);
  for (Index layer = 0; layer < shape.layers; ++layer) parts.blocks.push_back(make_block(shape, layer, group));
  parts.norm = std::make_unique<LayerNorm>("transformer.ln_f", shape.width, shape.norm_epsilon);
  parts.head =
      std::make_unique<LossHead>(shape.tied_head ? tokens : make_parameter("lm_head.weight", table, {0, kDeviation}));
  return parts;
}

ModelShape read_gpt2(const ConfigReader& config) {
  config.require_one_of("activation_function", "gelu_new", {"gelu_new", "gelu_pytorch_tanh"});
  config.require("scale_attn_weights", true, true);
  config.require("scale_attn_by_inverse_layer_idx", false, false);
  config.require("add_cross_attention", false, false);
  config.require_absent("quantization_config");
  ModelShape shape;
  shape.layers = config.integer("n_layer");
  shape.width = config.integer("n_embd");
  shape.heads = config.integer("n_head");
  shape.mlp_width = config.integer("n_inner", 0);
  shape.positions = config.integer("n_positions");
  shape.vocabulary = config.integer("vocab_size");
  shape.tied_head = config.boolean("tie_word_embeddings", true);
  shape.norm_epsilon = static_cast<float>(config.number("layer_norm_epsilon", 1e-5));
  return shape;
}

nlohmann::ordered_json write_gpt2(const ModelShape& shape) {
  nlohmann::ordered_json config;
  config["architectures"] = {"GPT2LMHeadModel"};
  config["n_layer"] = shape.layers;
  config["n_embd"] = shape.width;
  config["n_head"] = shape.heads;
  config["n_inner"] = shape.mlp_width;
  config["n_positions"] = shape.positions;
  config["activation_function"] = "gelu_new";
  config["layer_norm_epsilon"] = shortest(shape.norm_epsilon);
  for (const char* dropout : {"attn_pdrop", "embd_pdrop", "resid_pdrop"}) config[dropout] = shape.dropout;
  return config;
}

}  // namespace

extern const FamilyDefinition gpt2_family;
const FamilyDefinition gpt2_family{.family = Family::gpt2,
                                   .name = "gpt2",
                                   .windowed = "",
                                   .windowed_architecture = "",
                                   .tied_head = true,
                                   .complete = complete_gpt2,
                                   .build = build_gpt2,
                                   .read = read_gpt2,
                                   .write = write_gpt2};

}  // namespace plasmid
