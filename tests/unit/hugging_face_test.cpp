// Reading and writing Hugging Face directories: names, shards, types, and one clear refusal for each way to be wrong.
#include <gtest/gtest.h>

#include <bit>
#include <nlohmann/json.hpp>

#include "attention/model/language_model.hpp"
#include "parallel/comm/self.hpp"
#include "runtime/io/safetensors.hpp"
#include "tests/support/expect_error.hpp"
#include "tests/support/model_run.hpp"
#include "tests/support/temporary_folder.hpp"

namespace plasmid::test {
namespace {

using nlohmann::json;

struct Tensor {
  Shape shape;
  DType dtype = DType::f32;
  std::vector<std::byte> bytes;
};
using Tensors = std::map<std::string, Tensor>;

Tensor tensor_of(ConstView view) {
  const auto* data = view.data;
  return {view.shape, view.dtype, {data, data + view.spec().bytes()}};
}

Tensors tensors_of(const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  Tensors tensors;
  for (const std::string& name : file.names()) tensors[name] = tensor_of(file.tensor(name));
  return tensors;
}

void write(const std::filesystem::path& path, Tensors& tensors) {
  std::map<std::string, ConstView> views;
  for (auto& [name, tensor] : tensors) views[name] = ConstView(View(tensor.bytes.data(), {tensor.shape, tensor.dtype}));
  write_safetensors(path, views);
}

// A copy of one of the repository's own models, to be changed.
class HuggingFace : public testing::Test {
 protected:
  void use(const std::string& name) {
    const auto source = std::filesystem::path(PLASMID_SOURCE_DIR) / "tests/reference" / name / "model";
    config_ = json::parse(read_bytes(source / "config.json"));
    tensors_ = tensors_of(source / "model.safetensors");
  }
  void write_all() {
    write_bytes(folder_ / "config.json", config_.dump());
    write(folder_ / "model.safetensors", tensors_);
  }
  std::vector<float> load() {
    const auto self = make_self_communicator();
    ModelRun run(folder_.path(), *self);
    return {run.store().weights().begin(), run.store().weights().end()};
  }
  std::vector<float> load_as_written() {
    write_all();
    return load();
  }
  void rename(const std::string& from, const std::string& to) {
    auto node = tensors_.extract(from);
    ASSERT_FALSE(node.empty()) << from;
    node.key() = to;
    tensors_.insert(std::move(node));
  }

  TemporaryFolder folder_;
  json config_;
  Tensors tensors_;
};

TEST_F(HuggingFace, NamesWithoutTheModelsPrefixAndKnownBuffers) {
  use("gpt2_tiny");
  const std::vector<float> want = load_as_written();
  for (const auto& [name, tensor] : Tensors(tensors_)) rename(name, name.substr(std::string("transformer.").size()));
  tensors_["h.0.attn.bias"] = tensors_["h.1.attn.masked_bias"] = {{1, 1}, DType::f32, std::vector<std::byte>(4)};
  tensors_["lm_head.weight"] = tensors_["wte.weight"];  // the second name of the tied head
  EXPECT_EQ(load_as_written(), want);
}

TEST_F(HuggingFace, ShardsWithAnIndex) {
  use("llama_tiny");
  const std::vector<float> want = load_as_written();
  std::filesystem::remove(folder_ / "model.safetensors");
  Tensors halves[2];
  json index;
  for (const auto& [name, tensor] : tensors_) {
    const std::size_t half = name.size() % 2;
    halves[half][name] = tensor;
    index["weight_map"][name] = "model-" + std::to_string(half) + ".safetensors";
  }
  for (const std::size_t half : {0, 1})
    write(folder_ / ("model-" + std::to_string(half) + ".safetensors"), halves[half]);
  write_bytes(folder_ / "model.safetensors.index.json", index.dump());
  EXPECT_EQ(load(), want);

  const auto refuse = [&](const json& map, ErrorCode code, const std::vector<std::string>& words) {
    write_bytes(folder_ / "model.safetensors.index.json", map.dump());
    expect_error(code, words, [&] { load(); });
  };
  json escaping = index, wrong_shard = index, missing_shard = index, not_text = index;
  escaping["weight_map"]["model.norm.weight"] = "../model-0.safetensors";
  refuse(escaping, ErrorCode::data, {"weight_map.model.norm.weight", "beside the index"});
  wrong_shard["weight_map"]["invented"] = "model-0.safetensors";
  refuse(wrong_shard, ErrorCode::data, {"\"invented\"", "is not in", "model-0.safetensors"});
  missing_shard["weight_map"]["model.norm.weight"] = "model-7.safetensors";
  refuse(missing_shard, ErrorCode::no_input, {"model-7.safetensors"});
  not_text["weight_map"]["model.norm.weight"] = 3;
  refuse(not_text, ErrorCode::data, {"weight_map.model.norm.weight", "not a string"});
  refuse(json{{"metadata", 1}}, ErrorCode::data, {"weight_map is missing"});
}

TEST_F(HuggingFace, Bf16BecomesF32) {
  use("llama_tiny");
  Tensor& tensor = tensors_["model.norm.weight"];
  std::vector<float> values(static_cast<std::size_t>(tensor.shape.count()));
  std::vector<std::uint16_t> halves(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(i) * 0.5f - 3;  // few bits: exact in bf16
    halves[i] = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(values[i]) >> 16);
  }
  const auto bytes = std::as_bytes(std::span(halves));
  tensor = {tensor.shape, DType::bf16, {bytes.begin(), bytes.end()}};
  write_all();
  const auto self = make_self_communicator();
  ModelRun run(folder_.path(), *self);
  for (const ParameterPtr& parameter : run.store().parameters())
    if (parameter->name == "model.norm.weight") {
      const auto loaded = run.store().weight(*parameter).flat<float>();
      EXPECT_EQ(std::vector<float>(loaded.begin(), loaded.end()), values);
    }
}

TEST_F(HuggingFace, RefusesTensorsThatDoNotFit) {
  const std::string entry = "transformer.h.1.ln_2.weight";
  const auto refuse = [&](const std::vector<std::string>& words) {
    write_all();
    expect_error(ErrorCode::data, words, [&] { load(); });
    use("gpt2_tiny");
  };
  use("gpt2_tiny");
  tensors_.erase(entry);
  refuse({"model.safetensors", "\"" + entry + "\" is missing", "[24]"});
  tensors_[entry] = {{2, 12}, DType::f32, std::vector<std::byte>(96)};
  refuse({"model.safetensors", "\"" + entry + "\" is [2, 12]", "[24]"});
  tensors_["transformer.h.2.ln_1.weight"] = tensors_[entry];  // a layer more than config.json has
  refuse({"model.safetensors", "\"transformer.h.2.ln_1.weight\" is unknown"});
  tensors_[entry] = {{24}, DType::f64, std::vector<std::byte>(192)};
  refuse({"\"" + entry + "\" is f64", "F32 or BF16"});
  config_["tie_word_embeddings"] = false;
  refuse({"\"lm_head.weight\" is missing", "[61, 24]"});
}

TEST_F(HuggingFace, RefusesF16ByName) {
  use("gpt2_tiny");
  write_all();
  const std::string header = R"({"transformer.wte.weight":{"dtype":"F16","shape":[61,24],"data_offsets":[0,2928]}})";
  std::string bytes(8, '\0');
  bytes[0] = static_cast<char>(header.size());
  write_bytes(folder_ / "model.safetensors", bytes + header + std::string(2928, '\0'));
  expect_error(ErrorCode::data, {"model.safetensors", "transformer.wte.weight", "F16"}, [&] { load(); });
}

TEST_F(HuggingFace, RefusesDeepJson) {
  const std::string deep(200000, '[');
  for (const std::string& text : {"{\"n_layer\":" + deep, "{\"n_layer\":" + deep + std::string(200000, ']') + "}"}) {
    write_bytes(folder_ / "config.json", text);
    expect_error(ErrorCode::data, {"config.json", "deep"}, [&] { read_shape(folder_.path()); });
  }
}

TEST_F(HuggingFace, RefusesMissingFiles) {
  expect_error(ErrorCode::no_input, {"config.json"}, [&] { read_shape(folder_.path()); });
  use("gpt2_tiny");
  write_bytes(folder_ / "config.json", config_.dump());
  expect_error(ErrorCode::no_input, {"neither model.safetensors nor"}, [&] { load(); });
  for (const char* text : {"", "[]", "{\"n_layer\": 2", "\"gpt2\""}) {
    write_bytes(folder_ / "config.json", text);
    expect_error(ErrorCode::data, {"config.json", "not a JSON object"}, [&] { read_shape(folder_.path()); });
  }
}

TEST_F(HuggingFace, RefusesWhatIsNotComputedHere) {
  struct Case {
    const char* model;
    const char* field;
    json value;
    std::vector<std::string> words;
  };
  const Case cases[] = {
      {"gpt2_tiny", "model_type", "bert", {"model_type", "\"bert\"", "gpt2 or llama"}},
      {"gpt2_tiny", "activation_function", "relu", {"activation_function", "\"relu\"", "gelu_new"}},
      {"gpt2_tiny", "scale_attn_by_inverse_layer_idx", true, {"scale_attn_by_inverse_layer_idx is true"}},
      {"gpt2_tiny", "scale_attn_weights", false, {"scale_attn_weights is false"}},
      {"gpt2_tiny", "add_cross_attention", true, {"add_cross_attention"}},
      {"gpt2_tiny", "quantization_config", json::object(), {"quantization_config"}},
      {"gpt2_tiny", "n_layer", nullptr, {"n_layer is missing"}},
      {"gpt2_tiny", "n_layer", "two", {"n_layer is not an integer"}},
      {"gpt2_tiny", "n_layer", 1e30, {"n_layer is not an integer"}},
      {"gpt2_tiny", "n_embd", 1u << 31, {"n_embd is out of range"}},
      {"gpt2_tiny", "n_head", 5, {"config.json", "model.heads = 5", "model.width = 24"}},
      {"gpt2_tiny", "layer_norm_epsilon", "small", {"layer_norm_epsilon is not a number"}},
      {"gpt2_tiny", "tie_word_embeddings", 1, {"tie_word_embeddings is neither true nor false"}},
      {"llama_tiny", "hidden_act", "gelu", {"hidden_act", "\"gelu\""}},
      {"llama_tiny", "attention_bias", true, {"attention_bias is true"}},
      {"llama_tiny", "mlp_bias", true, {"mlp_bias is true"}},
      {"llama_tiny", "sliding_window", 4096, {"sliding_window"}},
      {"llama_tiny", "head_dim", 16, {"head_dim", "24 / 3"}},
      {"llama_tiny", "partial_rotary_factor", 0.5, {"partial_rotary_factor"}},
      {"llama_tiny", "rope_scaling", {{"type", "linear"}, {"factor", 2.0}}, {"rope_scaling.type", "\"linear\""}},
      {"llama_tiny", "rope_parameters", {{"rope_type", "llama3"}}, {"rope_parameters.rope_type", "\"llama3\""}},
      {"llama_tiny", "rope_parameters", 3, {"rope_parameters is not an object"}},
  };
  for (const Case& item : cases) {
    use(item.model);
    config_[item.field] = item.value;
    write_bytes(folder_ / "config.json", config_.dump());
    expect_error(ErrorCode::data, item.words, [&] { read_shape(folder_.path()); });
  }
}

TEST_F(HuggingFace, ReadsNestedRopeParameters) {
  use("llama_tiny");
  config_["rope_parameters"] = {{"rope_theta", 500000.0}, {"rope_type", "default"}};
  write_bytes(folder_ / "config.json", config_.dump());
  EXPECT_EQ(read_shape(folder_.path()).rope_base, 500000);
}

TEST_F(HuggingFace, WritesWhatItReads) {
  for (const Family family : {Family::gpt2, Family::llama}) {
    ModelShape shape{.family = family,
                     .layers = 3,
                     .width = 64,
                     .heads = 4,
                     .mlp_width = 100,
                     .positions = 77,
                     .vocabulary = 5,
                     .tied_head = false,
                     .norm_epsilon = 1e-6f};
    if (family == Family::llama) shape.kv_heads = 2, shape.rope_base = 5e5;
    const ModelShape whole = complete(shape);
    write_bytes(folder_ / "config.json", write_config(whole));
    const ModelShape read = read_shape(folder_.path());
    EXPECT_EQ(read.family, whole.family);
    EXPECT_EQ(std::tie(read.layers, read.width, read.heads, read.kv_heads, read.mlp_width, read.positions),
              std::tie(whole.layers, whole.width, whole.heads, whole.kv_heads, whole.mlp_width, whole.positions));
    EXPECT_EQ(std::tie(read.vocabulary, read.tied_head, read.norm_epsilon, read.rope_base),
              std::tie(whole.vocabulary, whole.tied_head, whole.norm_epsilon, whole.rope_base));
    EXPECT_NE(write_config(whole).find("1e-06"), std::string::npos) << write_config(whole);
  }
}

TEST_F(HuggingFace, ALlamaThatSeesAWindowIsMistral) {
  ModelShape shape{.family = Family::llama, .layers = 1, .width = 8, .heads = 2, .positions = 77, .vocabulary = 5};
  const auto written = [&](Index window_left) {
    shape.window_left = window_left;
    const std::string text = write_config(complete(shape));
    write_bytes(folder_ / "config.json", text);
    EXPECT_EQ(read_shape(folder_.path()).window_left, window_left < 76 ? window_left : 0);
    return json::parse(text);
  };
  // Of 77 positions the last sees 76 before itself.
  for (const Index window : {1, 5, 75}) {
    const json config = written(window);
    EXPECT_EQ(config["model_type"], "mistral");
    EXPECT_EQ(config["architectures"], json({"MistralForCausalLM"}));
    EXPECT_EQ(config["sliding_window"], window + 1);  // transformers counts the query's own key
  }
  for (const Index window : {0, 76, 1000}) {
    const json config = written(window);
    EXPECT_EQ(config["model_type"], "llama");
    EXPECT_FALSE(config.contains("sliding_window"));
  }
  json config = written(5);
  config["sliding_window"] = nullptr;
  write_bytes(folder_ / "config.json", config.dump());
  EXPECT_EQ(read_shape(folder_.path()).window_left, 0);
  for (const json& wrong : {json(1), json(0), json(-4), json("all")}) {
    config["sliding_window"] = wrong;
    write_bytes(folder_ / "config.json", config.dump());
    expect_error(ErrorCode::data, {"config.json", "sliding_window"}, [&] { read_shape(folder_.path()); });
  }
}

}  // namespace
}  // namespace plasmid::test
