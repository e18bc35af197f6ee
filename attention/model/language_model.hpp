#pragma once
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "attention/lsh/lsh.hpp"
#include "attention/mask/mask.hpp"
#include "parallel/comm/communicator.hpp"
#include "runtime/nn/module.hpp"

namespace plasmid {

enum class Family : std::uint8_t { gpt2, llama, reformer };

// How a layer of a Reformer attends: to all before; to its own chunk of positions and the one before; or to its own
// chunk of the tokens sorted by hash and the one before.
enum class LayerKind : std::uint8_t { dense, local, lsh };

struct ReformerShape {           // what only this family has
  std::vector<LayerKind> kinds;  // of each layer; fewer: they recur
  Index local_chunk = 64;        // positions
  LshOptions lsh = {};           // causal; scores are not scaled, as in published weights
  Index buckets = 0;             // of a round; 0: of lsh.chunk tokens or fewer in `positions`
  Index axial_rows = 0, axial_columns = 0, axial_channels = 0;  // positions = rows * columns; channels of the rows
};

// The shape of a decoder-only language model. Zero: not given; `complete` fills the family's defaults and checks.
struct ModelShape {
  Family family = Family::gpt2;
  Index layers = 0, width = 0, heads = 0, kv_heads = 0, mlp_width = 0, positions = 0, vocabulary = 0;
  bool tied_head = true;
  float norm_epsilon = 1e-5f;
  double rope_base = 10000;
  double dropout = 0;  // while training: of attention weights and both branches of a block; gpt2: of the embedding too
  Index window_left = 0;  // keys before itself that a query sees in every layer; 0: all
  Index head_size = 0;    // channels of a head; 0: width / heads
  ReformerShape reformer = {};
  Index head_dim() const { return head_size > 0 ? head_size : width / heads; }
  bool sees_a_window() const { return window_left > 0 && window_left < positions - 1; }  // the window hides something
};

// kv_heads = heads; mlp_width = 4 width (llama: 8/3 width, up to a multiple of 32). Throws Error{config} naming the
// field and the arithmetic: heads that do not divide width, kv_heads that do not divide heads, an odd head size under
// RoPE, what the family does not have.
ModelShape complete(ModelShape);
bool default_tied_head(Family);

// inputs   tokens i32 [tokens], labels i32 [tokens] (-1: not counted)
// outputs  loss f64 [1]: the SUM of -log p(label) over counted labels of this rank; counted i64 [1]
// The caller reduces both over the axes that hold different tokens and divides once.
class LanguageModel : public Module {
 public:
  virtual const ModelShape& shape() const = 0;
  // logits f32 [tokens, vocabulary]; keeps nothing.
  virtual void logits(Context&, ConstView tokens, View logits) = 0;
};

// What each block forms again in backward rather than keeps.
enum class Recompute : std::uint8_t { none, core /* all but attention's (out, lse) */, all };

// `ring` is borrowed: the ranks that share each sequence; attention runs over it. The pattern lets no query see a later
// key. `storage`: of queries, keys and values, f32 or bf16; Error{config} for a family that does not have the latter.
std::unique_ptr<LanguageModel> make_language_model(const ModelShape&, Communicator& ring,
                                                   const Pattern& pattern = Pattern::causal(),
                                                   Recompute recompute = Recompute::none, DType storage = DType::f32);

// A Hugging Face directory of either family (or of Mistral, a Llama with a window): config.json, and model.safetensors
// or an index with shards. Parameter names are Hugging Face's, so loading is by name, with or without the
// "transformer." or "model." in front; bf16 becomes f32. Throws Error{no_input | data} naming file and field or entry,
// and both shapes: what a configuration asks for and is not computed here is refused, as are tensors missing, unknown,
// or of another shape.
ModelShape read_shape(const std::filesystem::path& directory);
class WholeStore;
void load_weights(const std::filesystem::path& directory, WholeStore&);
// The config.json of a complete shape, as `transformers` reads it: a Llama that sees a window is its Mistral. It has no
// GPT-2 with a window: that is written without, and read_shape gives a shape without.
std::string write_config(const ModelShape&);

}  // namespace plasmid
