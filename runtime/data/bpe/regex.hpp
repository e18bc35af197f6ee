#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "runtime/base/index.hpp"

namespace plasmid::bpe {

// A pattern of a tokenizer.json, which Oniguruma (in Ruby's syntax) is meant to read, run by PCRE2. The two agree on
// what is let through: character classes, \s \S \d \D \p{..} \P{..}, groups, alternatives, lookahead and quantifiers.
// What they read differently, or what looks back from a match, is refused. One thread at a time.
class Regex {
 public:
  enum class Found : std::uint8_t { match, none, more };  // more: text behind the given one may change the answer

  // Throws Error{config} as "`where`: ...".
  Regex(const std::string& pattern, bool literal, const std::string& where);
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;
  ~Regex();

  // The first match in text[from, end), which is never empty. `text` is valid UTF-8; `complete`: nothing follows it.
  Found find(std::string_view text, std::size_t from, bool complete, Range& match);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace plasmid::bpe
