#pragma once
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/index.hpp"
#include "runtime/data/bpe/merges.hpp"

namespace plasmid::bpe {

// The tokenizer of a tokenizer.json: texts to the ids that Hugging Face `tokenizers` gives for them without special
// tokens added around. Texts come in parts of any size, and memory does not grow with them, but with their longest
// word. One thread at a time.
class Encoder {
 public:
  explicit Encoder(const std::filesystem::path& tokenizer_json);  // errors as read_definition
  ~Encoder();

  int vocabulary() const;      // ids are below
  std::string digest() const;  // of the file

  // Appends the tokens that a part of a text makes certain; `ends`: it is the text's last. The bytes of all tokens add
  // up to those of the normalised text; a word mark counts as the space that it stands for. Throws Error{data} as
  // "`name`: byte 17 ..." where the text is not UTF-8.
  void encode(std::string_view part, bool ends, const std::string& name, std::vector<Token>& to);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace plasmid::bpe
