// Reformer (Kitaev et al. 2020), with the names and layouts of Hugging Face's ReformerModelWithLMHead: reversible
// layers between two streams, axial positions, a pattern of local, LSH and dense attention, ReLU, a head that reads
// both streams. Dropout of both branches and of the attention weights of layers that do not hash, with one probability.
#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "attention/model/family.hpp"
#include "attention/model/reversible_decoder.hpp"
#include "runtime/base/error.hpp"
#include "runtime/nn/dropped.hpp"
#include "runtime/nn/embedding.hpp"
#include "runtime/nn/mlp.hpp"
#include "runtime/nn/norm.hpp"
#include "runtime/nn/normed.hpp"

namespace plasmid {
namespace {

constexpr std::array<std::string_view, 3> kKindNames = {"dense", "local", "lsh"};  // by LayerKind
constexpr float kDeviation = 0.02f, kAxialDeviation = 1;

[[noreturn]] void refuse(const std::string& what) { throw Error(ErrorCode::config, what); }

// Positions as a grid that is nearly square, its columns a power of two.
void choose_axes(ModelShape& shape) {
  ReformerShape& own = shape.reformer;
  Index columns = 1;
  while (columns * columns < shape.positions) columns *= 2;
  own.axial_columns = columns;
  own.axial_rows = ceil_div(shape.positions, columns);
  own.axial_channels = shape.width / 4;
}

void complete_reformer(ModelShape& shape) {
  ReformerShape& own = shape.reformer;
  if (shape.mlp_width == 0) shape.mlp_width = 4 * shape.width;
  if (shape.head_size == 0) shape.head_size = shape.width / shape.heads;
  if (shape.kv_heads != shape.heads)
    refuse("model.kv_heads = " + std::to_string(shape.kv_heads) +
           ": REFORMER has no grouped heads; model.heads = " + std::to_string(shape.heads));
  if (shape.tied_head) refuse("model.tied_head: the head of REFORMER reads two streams, twice the embedding's width");
  if (shape.window_left != 0) refuse("attention.window_left: the layers of REFORMER are local or dense, not windowed");
  if (own.kinds.empty()) own.kinds = {LayerKind::local, LayerKind::lsh};
  if (own.local_chunk < 1) refuse("a local chunk of " + std::to_string(own.local_chunk) + " positions");
  if (own.lsh.chunk < 1 || own.lsh.chunk > kMaxLshChunk)
    refuse("an LSH chunk of " + std::to_string(own.lsh.chunk) + " tokens: 1 to " + std::to_string(kMaxLshChunk));
  if (own.lsh.rounds < 1 || own.lsh.rounds > 64) refuse(std::to_string(own.lsh.rounds) + " rounds of hashing: 1 to 64");
  if (own.buckets == 0) own.buckets = choose_lsh_buckets(shape.positions, own.lsh.chunk).count();
  (void)lsh_buckets_of(own.buckets);  // throws
  if (own.axial_rows == 0) choose_axes(shape);
  if (own.axial_rows < 1 || own.axial_columns < 1 || own.axial_rows * own.axial_columns < shape.positions)
    refuse("axial positions " + std::to_string(own.axial_rows) + " x " + std::to_string(own.axial_columns) + " are " +
           std::to_string(own.axial_rows * own.axial_columns) +
           ", model.positions = " + std::to_string(shape.positions));
  if (own.axial_channels < 1 || own.axial_channels >= shape.width)
    refuse("axial channels of the rows " + std::to_string(own.axial_channels) +
           " are not in [1, model.width = " + std::to_string(shape.width) + ")");
}

LayerKind kind_of(const ModelShape& shape, Index layer) {
  const auto& kinds = shape.reformer.kinds;
  return kinds[static_cast<std::size_t>(layer) % kinds.size()];
}

// The groups of a model, one for each kind of attention that its layers have.
class Groups {
 public:
  Groups(const ReformerShape& shape, Communicator& ring) : shape_(shape), ring_(ring) {}
  const std::shared_ptr<AttentionGroup>& of(LayerKind kind) {
    auto& group = kind == LayerKind::local ? local_ : dense_;
    if (!group) {
      group = make_attention_group(ring_,
                                   kind == LayerKind::local ? Pattern::local(shape_.local_chunk) : Pattern::causal());
      all.push_back(group);
    }
    return group;
  }
  const std::shared_ptr<LshGroup>& hashing() {
    if (!lsh) lsh = make_lsh_group(ring_, shape_.lsh, lsh_buckets_of(shape_.buckets));
    return lsh;
  }
  std::vector<std::shared_ptr<AttentionGroup>> all;
  std::shared_ptr<LshGroup> lsh;

 private:
  const ReformerShape& shape_;
  Communicator& ring_;
  std::shared_ptr<AttentionGroup> local_, dense_;
};

std::unique_ptr<Module> make_attention(const ModelShape& shape, LayerKind kind, const std::string& name,
                                       Groups& groups) {
  const Index inner = shape.heads * shape.head_dim();
  const AffineOptions bare{ops::WeightLayout::out_in, false, kDeviation};
  const auto input = [&](const char* part) {
    return make_affine(name + "self_attention." + part, shape.width, inner, bare);
  };
  Affine output = make_affine(name + "output.dense", inner, shape.width, bare);
  if (kind == LayerKind::lsh)
    return std::make_unique<LshSelfAttention>(LshSelfAttentionOptions{.heads = shape.heads,
                                                                      .head_dim = shape.head_dim(),
                                                                      .inputs = {input("query_key"), input("value")},
                                                                      .output = std::move(output),
                                                                      .scale = 1},
                                              groups.hashing());
  return std::make_unique<SelfAttention>(SelfAttentionOptions{.heads = shape.heads,
                                                              .kv_heads = shape.heads,
                                                              .head_dim = shape.head_dim(),
                                                              .dropout = shape.dropout,
                                                              .inputs = {input("query"), input("key"), input("value")},
                                                              .output = std::move(output)},
                                         groups.of(kind));
}

ReversibleStack::Layer make_layer(const ModelShape& shape, Index layer, Groups& groups,
                                  const ReversibleDecoderParts& model) {
  const std::string number = std::to_string(layer), name = "reformer.encoder.layers." + number + ".";
  const Index width = shape.width;
  const AffineOptions plain{ops::WeightLayout::out_in, true, kDeviation};
  auto f =
      std::make_unique<Normed>(std::make_unique<LayerNorm>(name + "attention.layer_norm", width, shape.norm_epsilon),
                               dropped(make_attention(shape, kind_of(shape, layer), name + "attention.", groups),
                                       shape.dropout, DropoutPlace::attention_output));
  auto g = std::make_unique<Normed>(
      std::make_unique<LayerNorm>(name + "feed_forward.layer_norm", width, shape.norm_epsilon),
      dropped(std::make_unique<Mlp>(make_affine(name + "feed_forward.dense.dense", width, shape.mlp_width, plain),
                                    ops::Activation::relu,
                                    make_affine(name + "feed_forward.output.dense", shape.mlp_width, width, plain)),
              shape.dropout, DropoutPlace::mlp_output));
  const std::string place = std::string("model layer ") + number;
  return {make_whole_branch(place + ", attention", std::move(f), model.format),
          make_tiled_branch(place + ", feed-forward", std::move(g), model.tile, model.format)};
}

std::unique_ptr<LanguageModel> make_reformer(const ModelShape& shape, Communicator& ring, Recompute recompute) {
  const ReformerShape& own = shape.reformer;
  const Index columns_channels = shape.width - own.axial_channels;
  const std::string positions = "reformer.embeddings.position_embeddings.weights.";
  std::vector<PositionTable> axes = {
      {make_parameter(positions + "0", {own.axial_rows, 1, own.axial_channels}, {0, kAxialDeviation}),
       own.axial_columns, 0},
      {make_parameter(positions + "1", {1, own.axial_columns, columns_channels}, {0, kAxialDeviation}), 1,
       own.axial_channels}};
  ReversibleDecoderParts parts{
      .embedding = std::make_unique<Embedding>(make_parameter("reformer.embeddings.word_embeddings.weight",
                                                              {shape.vocabulary, shape.width}, {0, kDeviation}),
                                               std::move(axes)),
      .stack = ReversibleStack({}),
      .norm = std::make_unique<LayerNorm>("reformer.encoder.layer_norm", 2 * shape.width, shape.norm_epsilon),
      .head = std::make_unique<LossHead>(
          make_parameter("lm_head.decoder.weight", {shape.vocabulary, 2 * shape.width}, {0, kDeviation}),
          make_parameter("lm_head.decoder.bias", {shape.vocabulary}, {0, 0})),
      .groups = {},
      .lsh = nullptr,
      // Reversible layers form everything again, but for what is asked to stay.
      .keep = recompute == Recompute::core ? Keep::core : Keep::decisions};
  Groups groups(own, ring);
  std::vector<ReversibleStack::Layer> layers;
  for (Index layer = 0; layer < shape.layers; ++layer) layers.push_back(make_layer(shape, layer, groups, parts));
  parts.stack = ReversibleStack(std::move(layers));
  parts.groups = groups.all;
  parts.lsh = groups.lsh;
  return make_reversible_decoder(shape, std::move(parts));
}

// One number, or the factors of one.
Index read_buckets(const ConfigReader& config) {
  if (!config.contains("num_buckets")) return 0;
  if (!config.is_list("num_buckets")) return config.integer("num_buckets");
  Index product = 1;
  for (const Index factor : config.integers("num_buckets")) {
    if (factor < 1 || factor > kMaxLshBuckets) config.refuse("num_buckets", "has " + std::to_string(factor));
    product = std::min<Index>(product * factor, INT32_MAX);
  }
  return product;
}

ModelShape read_reformer(const ConfigReader& config) {
  config.require("is_decoder", false, true);
  config.require_one_of("hidden_act", "relu", {"relu"});
  config.require("axial_pos_embds", true, true);
  config.require_absent("quantization_config");
  for (const char* kind : {"local", "lsh"}) {
    for (const auto& [side, wanted] : {std::pair{"before", Index{1}}, {"after", Index{0}}}) {
      const std::string field = std::string(kind) + "_num_chunks_" + side;
      if (config.integer(field, wanted) != wanted) config.refuse(field, "other than " + std::to_string(wanted));
    }
  }
  ModelShape shape;
  shape.family = Family::reformer;
  shape.width = config.integer("hidden_size");
  shape.heads = config.integer("num_attention_heads");
  shape.head_size = config.integer("attention_head_size");
  shape.mlp_width = config.integer("feed_forward_size");
  shape.positions = config.integer("max_position_embeddings");
  shape.vocabulary = config.integer("vocab_size");
  shape.tied_head = false;
  shape.norm_epsilon = static_cast<float>(config.number("layer_norm_eps", 1e-12));
  ReformerShape& own = shape.reformer;
  for (const std::string& kind : config.texts("attn_layers")) {
    const auto known = std::ranges::find(kKindNames, kind);
    if (known == kKindNames.end()) config.refuse("attn_layers", "has " + kind + "; supported: local, lsh, dense");
    own.kinds.push_back(static_cast<LayerKind>(known - kKindNames.begin()));
  }
  shape.layers = std::ssize(own.kinds);
  own.local_chunk = config.integer("local_attn_chunk_length", 64);
  own.lsh.chunk = config.integer("lsh_attn_chunk_length", 64);
  own.lsh.rounds = config.integer("num_hashes", 1);
  config.require_one_of("lsh_previous", "sorted", {"sorted", "round"});
  own.lsh.previous = config.text("lsh_previous", "sorted") == "sorted" ? PreviousChunk::sorted : PreviousChunk::round;
  own.buckets = read_buckets(config);
  const std::vector<Index> axes = config.integers("axial_pos_shape"), channels = config.integers("axial_pos_embds_dim");
  if (axes.size() != 2) config.refuse("axial_pos_shape", "has " + std::to_string(axes.size()) + " axes; supported: 2");
  if (channels.size() != 2 || channels[0] + channels[1] != shape.width)
    config.refuse("axial_pos_embds_dim", "does not sum to hidden_size = " + std::to_string(shape.width));
  own.axial_rows = axes[0], own.axial_columns = axes[1], own.axial_channels = channels[0];
  return shape;
}

nlohmann::ordered_json write_reformer(const ModelShape& shape) {
  const ReformerShape& own = shape.reformer;
  nlohmann::ordered_json config;
  config["architectures"] = {"ReformerModelWithLMHead"};
  config["is_decoder"] = true;
  config["attn_layers"] = nlohmann::ordered_json::array();
  for (Index layer = 0; layer < shape.layers; ++layer)
    config["attn_layers"].push_back(kKindNames[static_cast<std::size_t>(kind_of(shape, layer))]);
  config["hidden_size"] = shape.width;
  config["num_attention_heads"] = shape.heads;
  config["attention_head_size"] = shape.head_dim();
  config["feed_forward_size"] = shape.mlp_width;
  config["max_position_embeddings"] = shape.positions;
  config["hidden_act"] = "relu";
  config["layer_norm_eps"] = shortest(shape.norm_epsilon);
  config["local_attn_chunk_length"] = own.local_chunk;
  config["lsh_attn_chunk_length"] = own.lsh.chunk;
  config["num_hashes"] = own.lsh.rounds;
  const LshBuckets buckets = lsh_buckets_of(own.buckets);
  if (buckets.second > 1)
    config["num_buckets"] = {buckets.first, buckets.second};
  else
    config["num_buckets"] = buckets.first;
  // Hugging Face knows one convention and has no name for it.
  if (own.lsh.previous == PreviousChunk::round) config["lsh_previous"] = "round";
  config["axial_pos_embds"] = true;
  config["axial_pos_shape"] = {own.axial_rows, own.axial_columns};
  config["axial_pos_embds_dim"] = {own.axial_channels, shape.width - own.axial_channels};
  config["hidden_dropout_prob"] = config["local_attention_probs_dropout_prob"] = shape.dropout;
  return config;
}

}  // namespace

extern const FamilyDefinition reformer_family;
const FamilyDefinition reformer_family{.family = Family::reformer,
                                       .name = "reformer",
                                       .windowed = "",
                                       .windowed_architecture = "",
                                       .tied_head = false,
                                       .complete = complete_reformer,
                                       .build = nullptr,
                                       .read = read_reformer,
                                       .write = write_reformer,
                                       .make = make_reformer};

}  // namespace plasmid
