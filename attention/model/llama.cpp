// Llama (Touvron et al. 2023), with the names and layouts of Hugging Face's LlamaForCausalLM: rotary positions, RMS
// norms, grouped keys and values, SwiGLU, no biases, weights stored [out, in]. Dropout of the
// attention weights, as there, and of both branches, with one probability.
#include <cmath>
#include <nlohmann/json.hpp>

#include "attention/block/transformer_block.hpp"
#include "attention/model/family.hpp"
#include "runtime/base/error.hpp"
#include "runtime/nn/embedding.hpp"
#include "runtime/nn/mlp.hpp"
#include "runtime/nn/norm.hpp"

namespace plasmid {
namespace {

constexpr float kDeviation = 0.02f;

void complete_llama(ModelShape& shape) {
  if (shape.mlp_width == 0) shape.mlp_width = round_up(ceil_div(8 * shape.width, 3), 32);
  if (shape.head_dim() % 2 != 0)
    throw Error(ErrorCode::config,
                "rotary positions need an even head size; model.width / model.heads = " + std::to_string(shape.width) +
                    " / " + std::to_string(shape.heads) + " = " + std::to_string(shape.head_dim()));
  if (!(shape.rope_base > 1) || !std::isfinite(shape.rope_base))
    throw Error(ErrorCode::config, "model.rope_base = " + std::to_string(shape.rope_base) + " is not above 1");
}

std::unique_ptr<Module> make_block(const ModelShape& shape, Index layer, const std::shared_ptr<AttentionGroup>& group) {
  const std::string name = "model.layers." + std::to_string(layer) + ".";
  const Index width = shape.width, kv_width = shape.kv_heads * shape.head_dim();
  const AffineOptions plain{ops::WeightLayout::out_in, false, kDeviation};
  // The residual stream is a sum of 2 * layers branches: each starts smaller, so that its variance does not grow.
  AffineOptions residual = plain;
  residual.deviation /= std::sqrt(2 * static_cast<float>(shape.layers));

  SelfAttentionOptions attention{.heads = shape.heads,
                                 .kv_heads = shape.kv_heads,
                                 .head_dim = shape.head_dim(),
                                 .rope_base = shape.rope_base,
                                 .dropout = shape.dropout};
  attention.inputs = {make_affine(name + "self_attn.q_proj", width, width, plain),
                      make_affine(name + "self_attn.k_proj", width, kv_width, plain),
                      make_affine(name + "self_attn.v_proj", width, kv_width, plain)};
  attention.output = make_affine(name + "self_attn.o_proj", width, width, residual);
  return make_transformer_block(
      {.attention_norm = std::make_unique<RmsNorm>(name + "input_layernorm", width, shape.norm_epsilon),
       .attention = std::make_unique<SelfAttention>(std::move(attention), group),
       .mlp_norm = std::make_unique<RmsNorm>(name + "post_attention_layernorm", width, shape.norm_epsilon),
       .mlp = std::make_unique<SwiGluMlp>(make_affine(name + "mlp.gate_proj", width, shape.mlp_width, plain),
                                          make_affine(name + "mlp.up_proj", width, shape.mlp_width, plain),
                                          make_affine(name + "mlp.down_proj", shape.mlp_width, width, residual)),
       .dropout = shape.dropout});
}

DecoderParts build_llama(const ModelShape& shape, const std::shared_ptr<AttentionGroup>& group) {
  const Shape table{shape.vocabulary, shape.width};
  const ParameterPtr tokens = make_parameter("model.embed_tokens.weight", table, {0, kDeviation});
  DecoderParts parts;
  parts.embedding = std::make_unique<Embedding>(tokens);
  for (Index layer = 0; layer < shape.layers; ++layer) parts.blocks.push_back(make_block(shape, layer, group));
  parts.norm = std::make_unique<RmsNorm>("model.norm", shape.width, shape.norm_epsilon);
  parts.head =
      std::make_unique<LossHead>(shape.tied_head ? tokens : make_parameter("lm_head.weight", table, {0, kDeviation}));
  return parts;
}

double read_rope_base(const ConfigReader& config) {
  double base = config.number("rope_theta", 10000);
  for (const char* field : {"rope_parameters", "rope_scaling"}) {
    const auto rope = config.object(field);
    if (!rope) continue;
    rope->require_one_of(rope->contains("type") ? "type" : "rope_type", "default", {"default"});
    base = rope->number("rope_theta", base);
  }
  return base;
}

// Mistral's sliding_window counts the query's own key.
Index read_window(const ConfigReader& config) {
  if (config.text("model_type", "") != "mistral") config.require_absent("sliding_window");
  config.require_absent("layer_types");
  if (!config.contains("sliding_window")) return 0;
  const Index keys = config.integer("sliding_window");
  if (keys < 2) config.refuse("sliding_window", "= " + std::to_string(keys) + " is not supported: at least 2");
  return keys - 1;
}

ModelShape read_llama(const ConfigReader& config) {
  config.require_one_of("hidden_act", "silu", {"silu", "swish"});
  config.require("attention_bias", false, false);
  config.require("mlp_bias", false, false);
  config.require_absent("quantization_config");
  if (config.number("partial_rotary_factor", 1) != 1)
    config.refuse("partial_rotary_factor", "other than 1 is not supported");
  ModelShape shape;
  shape.family = Family::llama;
  shape.layers = config.integer("num_hidden_layers");
  shape.width = config.integer("hidden_size");
  shape.heads = config.integer("num_attention_heads");
  shape.kv_heads = config.integer("num_key_value_heads", 0);
  shape.mlp_width = config.integer("intermediate_size");
  shape.positions = config.integer("max_position_embeddings");
  shape.vocabulary = config.integer("vocab_size");
  shape.tied_head = config.boolean("tie_word_embeddings", false);
  shape.norm_epsilon = static_cast<float>(config.number("rms_norm_eps", 1e-6));
  shape.rope_base = read_rope_base(config);
  shape.window_left = read_window(config);
  const Index head_dim = config.integer("head_dim", 0);
  if (head_dim != 0 && head_dim * shape.heads != shape.width)
    config.refuse("head_dim", "= " + std::to_string(head_dim) +
                                  " is not supported: hidden_size / num_attention_heads = " +
                                  std::to_string(shape.width) + " / " + std::to_string(shape.heads));
  return shape;
}

nlohmann::ordered_json write_llama(const ModelShape& shape) {
  nlohmann::ordered_json config;
  config["architectures"] = {"LlamaForCausalLM"};
  config["num_hidden_layers"] = shape.layers;
  config["hidden_size"] = shape.width;
  config["num_attention_heads"] = shape.heads;
  config["num_key_value_heads"] = shape.kv_heads;
  config["head_dim"] = shape.head_dim();
  config["intermediate_size"] = shape.mlp_width;
  config["max_position_embeddings"] = shape.positions;
  config["hidden_act"] = "silu";
  config["rms_norm_eps"] = shortest(shape.norm_epsilon);
  config["rope_theta"] = shape.rope_base;
  config["attention_bias"] = false;
  config["mlp_bias"] = false;
  config["attention_dropout"] = shape.dropout;
  if (shape.sees_a_window()) config["sliding_window"] = shape.window_left + 1;
  return config;
}

}  // namespace

extern const FamilyDefinition llama_family;
const FamilyDefinition llama_family{.family = Family::llama,
                                    .name = "llama",
                                    .windowed = "mistral",
                                    .windowed_architecture = "MistralForCausalLM",
                                    .tied_head = false,
                                    .complete = complete_llama,
                                    .build = build_llama,
                                    .read = read_llama,
                                    .write = write_llama};

}  // namespace plasmid
