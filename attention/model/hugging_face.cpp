#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "attention/model/family.hpp"
#include "runtime/base/bfloat16.hpp"
#include "runtime/base/error.hpp"
#include "runtime/base/quote.hpp"
#include "runtime/io/safetensors.hpp"
#include "runtime/nn/whole_store.hpp"

namespace plasmid {
namespace {

namespace fs = std::filesystem;

// One model's tensors, in one file or several.
class WeightFiles {
 public:
  explicit WeightFiles(const fs::path& directory) {
    const fs::path single = directory / "model.safetensors", index = directory / "model.safetensors.index.json";
    if (fs::exists(single)) {
      add_file(single);
      for (const std::string& name : files_.begin()->second.names()) place_.emplace(name, single);
      where_ = single.string();
    } else if (fs::exists(index)) {
      read_index(directory, index);
      where_ = index.string();
    } else {
      throw Error(ErrorCode::no_input,
                  directory.string() + ": neither model.safetensors nor model.safetensors.index.json");
    }
  }

  const std::string& where() const { return where_; }
  bool contains(const std::string& name) const { return place_.contains(name); }
  const fs::path& file_of(const std::string& name) const { return place_.at(name); }
  ConstView tensor(const std::string& name) const { return files_.at(place_.at(name)).tensor(name); }
  const std::map<std::string, fs::path>& names() const { return place_; }

 private:
  void add_file(const fs::path& path) { files_.try_emplace(path, path); }

  void read_index(const fs::path& directory, const fs::path& index) {
    const std::optional<ConfigReader> map = ConfigReader(index).object("weight_map");
    if (!map) throw Error(ErrorCode::data, index.string() + ": weight_map is missing");
    for (const std::string& name : map->fields()) {
      const std::string file = map->text(name, "");
      if (file.empty() || fs::path(file).filename() != file || file == "..")
        map->refuse(name, "is " + quote(file) + ", not the name of a file beside the index");
      add_file(directory / file);
      if (!files_.at(directory / file).contains(name))
        throw Error(ErrorCode::data, index.string() + ": entry " + quote(name) + " is not in " + quote(file));
      place_.emplace(name, directory / file);
    }
  }

  std::string where_;
  std::map<fs::path, SafetensorsFile> files_;
  std::map<std::string, fs::path> place_;  // of each tensor
};

// "h.0.ln_1.weight" of "transformer.h.0.ln_1.weight": how some files, published from the body alone, name it.
std::string short_name(const std::string& name) {
  for (const std::string_view prefix : {"transformer.", "model."})
    if (name.starts_with(prefix)) return name.substr(prefix.size());
  return name;
}

// Where a file may hold a parameter that it does not name as the model does.
std::string other_name(const std::string& name) {
  return name == "lm_head.decoder.bias" ? "lm_head.bias" : short_name(name);
}

// What files hold besides weights: causal masks, rotary frequencies, the second name of a tied head.
bool is_known_buffer(const std::string& name) {
  constexpr std::string_view endings[] = {".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"};
  return name == "lm_head.weight" ||
         std::ranges::any_of(endings, [&](std::string_view ending) { return name.ends_with(ending); });
}

void convert(ConstView from, std::span<float> to, const std::string& what) {
  if (from.dtype == DType::f32) {
    std::ranges::copy(from.flat<float>(), to.begin());
  } else if (from.dtype == DType::bf16) {
    std::ranges::transform(from.flat<BFloat16>(), to.begin(), [](BFloat16 value) { return widened(value); });
  } else {
    throw Error(ErrorCode::data, what + " is " + std::string(name_of(from.dtype)) + "; weights are F32 or BF16");
  }
}

}  // namespace

ModelShape read_shape(const fs::path& directory) {
  const fs::path path = directory / "config.json";
  const ConfigReader config(path);
  const std::string type = config.text("model_type", "");
  std::string known;
  for (const FamilyDefinition* family : families()) {
    for (const std::string_view name : {family->name, family->windowed})
      if (!name.empty()) known += (known.empty() ? "" : " or ") + std::string(name);
    if (family->name != type && (type.empty() || family->windowed != type)) continue;
    try {
      return complete(family->read(config));
    } catch (const Error& error) {
      if (error.code() != ErrorCode::config) throw;
      throw Error(ErrorCode::data, path.string() + ": " + error.what());
    }
  }
  config.refuse("model_type", "is " + quote(type) + "; supported: " + known);
}

void load_weights(const fs::path& directory, WholeStore& store) {
  const WeightFiles files(directory);
  std::set<std::string> used, other_names;
  for (const ParameterPtr& parameter : store.parameters()) {
    std::string name = parameter->name;
    if (other_name(name) == "lm_head.bias") other_names.insert("lm_head.bias");
    if (!files.contains(name)) name = other_name(name);
    if (!files.contains(name))
      throw Error(ErrorCode::data, files.where() + ": entry " + quote(parameter->name) +
                                       " is missing; the model has it as " + to_string(parameter->shape));
    const std::string what = files.file_of(name).string() + ": entry " + quote(name);
    const ConstView tensor = files.tensor(name);
    if (tensor.shape != parameter->shape)
      throw Error(ErrorCode::data,
                  what + " is " + to_string(tensor.shape) + ", config.json makes it " + to_string(parameter->shape));
    convert(tensor, store.weight(*parameter).flat<float>(), what);
    used.insert(name);
  }
  for (const auto& [name, file] : files.names())
    if (!used.contains(name) && !is_known_buffer(name) && !other_names.contains(name))
      throw Error(ErrorCode::data,
                  file.string() + ": entry " + quote(name) + " is unknown to a model of this config.json");
}

std::string write_config(const ModelShape& shape) {
  const FamilyDefinition& family = definition_of(shape.family);
  nlohmann::ordered_json config = family.write(shape);
  const bool windowed = shape.sees_a_window() && !family.windowed.empty();
  if (windowed) config["architectures"] = {family.windowed_architecture};
  config["model_type"] = windowed ? family.windowed : family.name;
  config["vocab_size"] = shape.vocabulary;
  config["tie_word_embeddings"] = shape.tied_head;
  config["torch_dtype"] = "float32";
  return config.dump(2) + "\n";
}

}  // namespace plasmid
