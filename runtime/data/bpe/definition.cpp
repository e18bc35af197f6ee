#include "runtime/data/bpe/definition.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "runtime/base/error.hpp"
#include "runtime/base/quote.hpp"
#include "runtime/io/file.hpp"

namespace plasmid::bpe {
namespace {

using nlohmann::json;

constexpr int kDeepest = 32;  // the reader recurses

// ByteLevel's pattern, from the GPT-2 release.
constexpr const char* kWords = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

std::string utf8(char32_t code) {
  std::string text;
  if (code < 0x80) {
    text += static_cast<char>(code);
  } else {
    text += static_cast<char>(0xc0 | code >> 6);
    text += static_cast<char>(0x80 | (code & 0x3f));
  }
  return text;
}

// The letters by which byte-level vocabularies print bytes: a printable byte of Latin-1 is itself, the others follow
// from U+0100 on.
std::unordered_map<std::string, char> byte_letters() {
  std::unordered_map<std::string, char> letters;
  char32_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool prints = (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    letters[utf8(prints ? static_cast<char32_t>(byte) : next++)] = static_cast<char>(byte);
  }
  return letters;
}

bool one_character(const std::string& text) {
  return !text.empty() &&
         std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }) == 1;
}

class Reader {
 public:
  explicit Reader(std::string file) : file_(std::move(file)) {}

  Definition read(const json& root) {
    if (!root.is_object() || !root.contains("model")) damaged("is no tokenizer.json: it has no model");
    read_normalizer(root.value("normalizer", json()), "normalizer");
    read_pre_tokenizer(root.value("pre_tokenizer", json()), "pre_tokenizer");
    read_model(root.at("model"));
    read_added(root.value("added_tokens", json::array()));
    for (const auto& [token, id] : definition_.model.vocabulary) count(id);
    for (const auto& [token, id] : unreachable_) count(id);
    return std::move(definition_);
  }

 private:
  [[noreturn]] void damaged(const std::string& what) const { throw Error(ErrorCode::data, file_ + ": " + what); }
  [[noreturn]] void unsupported(const std::string& what) const {
    throw Error(ErrorCode::config, file_ + ": " + what + " is not supported");
  }
  void count(std::int32_t id) { definition_.vocabulary = std::max(definition_.vocabulary, id + 1); }

  static std::string type_of(const json& part, const std::string& missing = "") {
    return part.is_object() ? part.value("type", missing) : missing;
  }
  std::int32_t id_of(const json& id, const std::string& where) const {
    if (!id.is_number_integer() || id.get<std::int64_t>() < 0 || id.get<std::int64_t>() >= INT32_MAX)
      damaged(where + ": " + quote(id.dump()) + " is no token id");
    return id.get<std::int32_t>();
  }

  void read_normalizer(const json& part, const std::string& where) {
    if (part.is_null()) return;
    const std::string type = type_of(part);
    auto& steps = definition_.normalizers;
    if (type == "Sequence") {
      for (const json& inner : part.at("normalizers")) read_normalizer(inner, where);
    } else if (type == "NFC") {
      if (!steps.empty()) unsupported(where + ": NFC behind another normalizer");
      steps.push_back(Nfc{});
    } else if (type == "Prepend") {
      steps.push_back(Prepend{part.at("prepend")});
    } else if (type == "Replace" && part.at("pattern").contains("String") &&
               one_character(part.at("pattern").at("String"))) {
      steps.push_back(Replace{part.at("pattern").at("String"), part.at("content")});
    } else {
      unsupported(where + ": " + (type == "Replace" ? "Replace of other than one character" : type));
    }
  }

  void read_pre_tokenizer(const json& part, const std::string& where) {
    if (part.is_null()) return;
    const std::string type = type_of(part);
    auto& steps = definition_.pre_tokenizers;
    if (definition_.model.byte_level) unsupported(where + ": " + type + " behind ByteLevel");
    if (type == "Sequence") {
      for (const json& inner : part.at("pretokenizers")) read_pre_tokenizer(inner, where);
    } else if (type == "Split") {
      steps.push_back(read_split(part, where));
    } else if (type == "Digits") {
      steps.push_back(Split{R"(\p{N})", false,
                            part.at("individual_digits").get<bool>() ? Behavior::isolated : Behavior::contiguous});
    } else if (type == "ByteLevel") {
      if (part.at("add_prefix_space").get<bool>()) steps.push_back(Mark{" ", Prefix::always});
      if (part.value("use_regex", true)) steps.push_back(Split{kWords});
      definition_.model.byte_level = true;
    } else if (type == "Metaspace") {
      read_metaspace(part, where);
    } else {
      unsupported(where + ": " + type);
    }
  }

  Split read_split(const json& part, const std::string& where) const {
    static const std::unordered_map<std::string, Behavior> behaviors = {
        {"Removed", Behavior::removed},
        {"Isolated", Behavior::isolated},
        {"MergedWithPrevious", Behavior::merged_with_previous},
        {"MergedWithNext", Behavior::merged_with_next},
        {"Contiguous", Behavior::contiguous}};
    const std::string name = part.at("behavior");
    const auto found = behaviors.find(name);
    if (found == behaviors.end()) unsupported(where + ": Split's behavior " + quote(name));
    const json& pattern = part.at("pattern");
    const bool literal = pattern.contains("String");
    Split split{pattern.at(literal ? "String" : "Regex"), literal, found->second, part.value("invert", false)};
    if (split.pattern.empty()) unsupported(where + ": Split by an empty pattern");
    return split;
  }

  void read_metaspace(const json& part, const std::string& where) {
    const std::string mark = part.at("replacement"), scheme = part.value("prepend_scheme", std::string("always"));
    if (!one_character(mark)) unsupported(where + ": Metaspace's replacement " + quote(mark));
    if (scheme != "always" && scheme != "first" && scheme != "never")
      unsupported(where + ": Metaspace's prepend_scheme " + quote(scheme));
    Prefix prefix = scheme == "always" ? Prefix::always : scheme == "first" ? Prefix::first : Prefix::never;
    if (!part.value("add_prefix_space", true)) prefix = Prefix::never;
    definition_.pre_tokenizers.push_back(Mark{mark, prefix});
    if (part.value("split", true)) definition_.pre_tokenizers.push_back(Split{mark, true, Behavior::merged_with_next});
  }

  void read_model(const json& part) {
    if (const std::string type = type_of(part, "BPE"); type != "BPE") unsupported("model " + type);
    Model& model = definition_.model;
    if (const json dropout = part.value("dropout", json()); dropout.is_number() && dropout.get<double>() != 0)
      unsupported("model.dropout " + dropout.dump());
    for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"})
      if (const json text = part.value(affix, json()); text.is_string() && !text.get<std::string>().empty())
        unsupported(std::string("model.") + affix + " " + quote(text.get<std::string>()));
    if (const json unknown = part.value("unk_token", json()); unknown.is_string()) model.unknown = unknown;
    model.fuse_unknown = part.value("fuse_unk", false);
    model.byte_fallback = part.value("byte_fallback", false);
    model.ignore_merges = part.value("ignore_merges", false);
    for (const auto& [token, id] : part.at("vocab").items()) {
      const auto units = units_of(token);
      (units ? model.vocabulary : unreachable_).emplace_back(units ? *units : token, id_of(id, "model.vocab"));
    }
    for (const json& merge : part.at("merges")) model.merges.push_back(read_merge(merge));
  }

  std::pair<std::string, std::string> read_merge(const json& merge) const {
    std::array<std::string, 2> parts;
    if (merge.is_string()) {
      const std::string text = merge;
      const auto space = text.find(' ');
      if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos)
        damaged("model.merges: " + quote(text) + " is not two tokens");
      parts = {text.substr(0, space), text.substr(space + 1)};
    } else {
      parts = merge.get<std::array<std::string, 2>>();
    }
    for (std::string& part : parts) {
      const auto units = units_of(part);
      if (!units) damaged("model.merges: " + quote(part) + " is not of bytes");
      part = *units;
    }
    return {parts[0], parts[1]};
  }

  // A token in the units of the model, bytes or characters; nothing where it is not made of them.
  std::optional<std::string> units_of(const std::string& token) const {
    static const std::unordered_map<std::string, char> letters = byte_letters();
    if (!definition_.model.byte_level) return token;
    std::string bytes;
    for (std::size_t at = 0; at < token.size();) {
      const std::size_t length = static_cast<unsigned char>(token[at]) < 0x80 ? 1 : 2;
      const auto found = letters.find(token.substr(at, length));
      if (found == letters.end()) return std::nullopt;
      bytes += found->second;
      at += length;
    }
    return bytes;
  }

  void read_added(const json& list) {
    for (const json& part : list) {
      AddedToken token{part.at("content"), id_of(part.at("id"), "added_tokens"), part.value("normalized", false)};
      for (const char* flag : {"single_word", "lstrip", "rstrip"})
        if (part.value(flag, false)) unsupported("added_tokens: " + quote(token.content) + " with " + flag);
      count(token.id);
      if (!token.content.empty()) definition_.added.push_back(std::move(token));
    }
  }

  std::string file_;
  Definition definition_;
  std::vector<std::pair<std::string, std::int32_t>> unreachable_;  // ids that no text leads to but as added tokens
};

}  // namespace

Definition read_definition(const std::filesystem::path& path) {
  const MappedFile file(path);
  const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  try {
    const auto shallow = [&](int depth, json::parse_event_t, json&) {
      if (depth > kDeepest)
        throw Error(ErrorCode::data, path.string() + ": nested more than " + std::to_string(kDeepest) + " deep");
      return true;
    };
    return Reader(path.string()).read(json::parse(text.begin(), text.end(), shallow));
  } catch (const json::exception& problem) {
    const std::string what = problem.what();
    throw Error(ErrorCode::data, path.string() + ": is no tokenizer.json: " + what.substr(0, 160));
  }
}

}  // namespace plasmid::bpe
