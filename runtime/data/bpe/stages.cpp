#include "runtime/data/bpe/stages.hpp"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>

#include "runtime/base/error.hpp"

namespace plasmid::bpe {
namespace {

bool continues_character(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

// Characters that no composition joins to what stands before them: ASCII, and ideographs from U+4000 to U+9FFF.
bool begins_composition(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte < 0x80 || (byte >= 0xe4 && byte <= 0xe9);
}

bool is_ascii(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

std::string composed(const std::string& text) {
  if (is_ascii(text)) return text;
  utf8proc_uint8_t* result = nullptr;
  const utf8proc_ssize_t length =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &result, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  if (length < 0) throw Error(ErrorCode::memory, std::string("NFC: ") + utf8proc_errmsg(length));
  std::string normalized(reinterpret_cast<const char*>(result), static_cast<std::size_t>(length));
  std::free(result);
  return normalized;
}

}  // namespace

std::string replaced(std::string_view text, std::string_view letter, std::string_view by) {
  std::string result;
  result.reserve(text.size() + text.size() / 2);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t found = std::min(text.find(letter, at), text.size());
    result += text.substr(at, found - at);
    if (found < text.size()) result += by;
    at = found + letter.size();
  }
  return result;
}

AddedSplitter::AddedSplitter(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)), first_(257, 0) {
  std::ranges::stable_sort(tokens_, [](const AddedToken& a, const AddedToken& b) {
    const auto one = static_cast<unsigned char>(a.content.front()), two = static_cast<unsigned char>(b.content.front());
    return one != two ? one < two : a.content.size() > b.content.size();
  });
  for (const AddedToken& token : tokens_) {
    ++first_[static_cast<unsigned char>(token.content.front()) + 1u];
    longest_ = std::max(longest_, token.content.size());
  }
  for (std::size_t byte = 0; byte < 256; ++byte) first_[byte + 1] += first_[byte];
}

const AddedToken* AddedSplitter::longest_at(std::string_view text) const {
  const auto byte = static_cast<unsigned char>(text.front());
  for (std::size_t i = first_[byte]; i < first_[byte + 1u]; ++i)
    if (text.starts_with(tokens_[i].content)) return &tokens_[i];
  return nullptr;
}

void AddedSplitter::feed(std::string_view part, bool ends, const Text& text, const Added& token) {
  if (tokens_.empty()) return text(part, ends);
  waiting_ += part;
  const std::string_view all = waiting_;
  std::size_t begin = 0, at = 0;
  while (at < all.size() && (ends || all.size() - at >= longest_)) {
    const AddedToken* found = longest_at(all.substr(at));
    if (!found) {
      ++at;
      continue;
    }
    text(all.substr(begin, at - begin), true);
    token(*found, found->content.size());
    begin = at += found->content.size();
  }
  while (at > begin && at < all.size() && continues_character(all[at])) --at;
  text(all.substr(begin, at - begin), ends);
  waiting_.erase(0, at);
}

NormalizerStage::NormalizerStage(std::vector<Normalizer> steps) : steps_(std::move(steps)) {
  composes_ = std::ranges::any_of(steps_, [](const Normalizer& step) { return std::holds_alternative<Nfc>(step); });
}

std::string NormalizerStage::normalized(std::string text, bool begins) const {
  for (const Normalizer& step : steps_) {
    if (const auto* replace = std::get_if<Replace>(&step))
      text = replaced(text, replace->letter, replace->by);
    else if (const auto* prepend = std::get_if<Prepend>(&step))
      text = (begins && !text.empty() ? prepend->text : "") + text;
    else
      text = composed(text);
  }
  return text;
}

std::string NormalizerStage::whole(std::string_view piece) const { return normalized(std::string(piece), true); }

void NormalizerStage::feed(std::string_view part, bool ends, const Text& text) {
  if (steps_.empty()) return text(part, ends);
  waiting_ += part;
  std::size_t cut = waiting_.size();
  if (composes_ && !ends) {
    while (cut > 0 && (cut == waiting_.size() || !begins_composition(waiting_[cut]))) --cut;
  }
  const std::string result = normalized(waiting_.substr(0, cut), begins_);
  waiting_.erase(0, cut);
  begins_ = ends || (begins_ && cut == 0);
  text(result, ends);
}

}  // namespace plasmid::bpe
