#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace plasmid::bpe {

// What a Hugging Face tokenizer.json says, as far as it is understood here. Texts are UTF-8.

struct AddedToken {
  std::string content;
  std::int32_t id = 0;
  bool normalized = false;  // looked for after normalisation, else before
};

struct Nfc {};
struct Prepend {
  std::string text;
};
struct Replace {
  std::string letter, by;  // one character
};
using Normalizer = std::variant<Nfc, Prepend, Replace>;

enum class Behavior : std::uint8_t { removed, isolated, merged_with_previous, merged_with_next, contiguous };
struct Split {
  std::string pattern;  // as Oniguruma reads it
  bool literal = false;
  Behavior behavior = Behavior::isolated;
  bool invert = false;
};
enum class Prefix : std::uint8_t { never, first, always };  // first: at the text's begin alone
// Replaces spaces by `mark` (where they differ) and puts one at a piece's begin that has none.
struct Mark {
  std::string mark;
  Prefix prefix = Prefix::never;
};
using PreTokenizer = std::variant<Split, Mark>;

struct Model {
  bool byte_level = false;  // vocabulary and merges are of bytes, already mapped back from their printable letters
  std::vector<std::pair<std::string, std::int32_t>> vocabulary;
  std::vector<std::pair<std::string, std::string>> merges;  // by falling priority
  std::optional<std::string> unknown;
  bool fuse_unknown = false, byte_fallback = false, ignore_merges = false;
};

struct Definition {
  std::vector<AddedToken> added;
  std::vector<Normalizer> normalizers;
  std::vector<PreTokenizer> pre_tokenizers;
  Model model;
  int vocabulary = 0;  // ids are below
};

// Reads a tokenizer.json. Post-processor, truncation and padding belong to single calls and are passed over: nothing is
// added to a text. Throws Error{config} naming the file and whatever in it is not supported here, Error{no_input},
// Error{data} for what is no tokenizer.json.
Definition read_definition(const std::filesystem::path&);

}  // namespace plasmid::bpe
