#include "runtime/data/bpe/encoder.hpp"

#include <utf8proc.h>

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "runtime/base/error.hpp"
#include "runtime/data/bpe/definition.hpp"
#include "runtime/data/bpe/stages.hpp"
#include "runtime/io/digest.hpp"

namespace plasmid::bpe {
namespace {

// The character that stands for a space, if any.
std::string mark_of(const Definition& definition) {
  for (const Normalizer& step : definition.normalizers)
    if (const auto* replace = std::get_if<Replace>(&step); replace && replace->letter == " ") return replace->by;
  for (const PreTokenizer& step : definition.pre_tokenizers)
    if (const auto* mark = std::get_if<Mark>(&step)) return mark->mark;
  return "";
}

std::vector<AddedToken> added_tokens(const Definition& definition, bool normalized, const NormalizerStage& normalizer) {
  std::vector<AddedToken> found;
  for (AddedToken token : definition.added) {
    if (token.normalized != normalized) continue;
    if (normalized) token.content = normalizer.whole(token.content);
    if (!token.content.empty()) found.push_back(std::move(token));
  }
  return found;
}

// Passes on whole characters, and refuses what is not UTF-8.
class Utf8Stage {
 public:
  void feed(std::string_view part, bool ends, const std::string& name, const Text& text) {
    if (!waiting_.empty()) {
      waiting_ += part;
      part = waiting_;
    }
    std::size_t at = 0;
    while (at < part.size()) {
      if (static_cast<unsigned char>(part[at]) < 0x80) {
        ++at;
        continue;
      }
      utf8proc_int32_t code = 0;
      const utf8proc_ssize_t length = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(part.data() + at),
                                                       static_cast<utf8proc_ssize_t>(part.size() - at), &code);
      if (length <= 0) {
        if (!ends && part.size() - at < 4) break;
        throw Error(ErrorCode::data, name + ": byte " + std::to_string(seen_ + static_cast<Index>(at)) +
                                         " starts no character of UTF-8");
      }
      at += static_cast<std::size_t>(length);
    }
    seen_ = ends ? 0 : seen_ + static_cast<Index>(at);
    std::string rest(part.substr(at));
    text(part.substr(0, at), ends);
    waiting_ = std::move(rest);
  }

 private:
  std::string waiting_;
  Index seen_ = 0;
};

// Remembers the tokens of short words.
class WordCache {
 public:
  const std::vector<Token>* find(std::string_view word) const {
    const auto found = words_.find(word);
    return found == words_.end() ? nullptr : &found->second;
  }
  void keep(std::string_view word, std::vector<Token> tokens) {
    constexpr std::size_t kMost = std::size_t{1} << 17;
    if (words_.size() >= kMost) words_.clear();
    words_.emplace(word, std::move(tokens));
  }

 private:
  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
  };
  std::unordered_map<std::string, std::vector<Token>, Hash, std::equal_to<>> words_;
};

}  // namespace

struct Encoder::Impl {
  explicit Impl(const std::filesystem::path& path)
      : definition(read_definition(path)),
        digest(digest_of_file(path).xxh3_128),
        merges(definition.model, mark_of(definition), path.string()),
        normalizer(definition.normalizers),
        raw(added_tokens(definition, false, normalizer)),
        normalized(added_tokens(definition, true, normalizer)),
        words(definition.pre_tokenizers, merges, path.string()),
        prepends(std::ranges::any_of(definition.normalizers,
                                     [](const Normalizer& step) { return std::holds_alternative<Prepend>(step); })) {}

  void add_word(std::string_view word, bool whole, bool prefixed) {
    constexpr std::size_t kLongest = 64;
    const std::size_t begin = to->size();
    const bool cached = word.size() <= kLongest && (whole || !definition.model.ignore_merges);
    if (const auto* known = cached ? cache.find(word) : nullptr) {
      to->insert(to->end(), known->begin(), known->end());
    } else {
      merges.encode(word, whole, *to);
      if (cached) cache.keep(word, {to->begin() + static_cast<std::ptrdiff_t>(begin), to->end()});
    }
    prefixed = prefixed || std::exchange(prepended, false);
    if (prefixed && to->size() > begin && (*to)[begin].bytes > 0) --(*to)[begin].bytes;
  }

  void add_token(const AddedToken& token, std::size_t bytes) {
    to->push_back({token.id, static_cast<std::uint32_t>(bytes)});
    words.pass_token();
  }

  Definition definition;
  std::string digest;
  Merges merges;
  Utf8Stage utf8;
  NormalizerStage normalizer;
  AddedSplitter raw, normalized;
  WordSplitter words;
  WordCache cache;
  bool prepends;
  bool prepended = false;  // the next word starts with what the normalizer put there
  bool piece_begins = true;
  std::vector<Token>* to = nullptr;
};

Encoder::Encoder(const std::filesystem::path& path) : impl_(std::make_unique<Impl>(path)) {}
Encoder::~Encoder() = default;

int Encoder::vocabulary() const { return impl_->definition.vocabulary; }
std::string Encoder::digest() const { return impl_->digest; }

void Encoder::encode(std::string_view part, bool ends, const std::string& name, std::vector<Token>& to) {
  Impl& it = *impl_;
  it.to = &to;
  const Word word = [&](std::string_view text, bool whole, bool prefixed) { it.add_word(text, whole, prefixed); };
  const Added token = [&](const AddedToken& added, std::size_t bytes) { it.add_token(added, bytes); };
  const Text split = [&](std::string_view text, bool last) { it.words.feed(text, last, word); };
  const Text find = [&](std::string_view text, bool last) { it.normalized.feed(text, last, split, token); };
  const Text normalize = [&](std::string_view text, bool last) {
    if (it.piece_begins && !text.empty()) it.prepended = it.prepends;
    it.piece_begins = last || (it.piece_begins && text.empty());
    it.normalizer.feed(text, last, find);
  };
  it.utf8.feed(part, ends, name, [&](std::string_view text, bool last) { it.raw.feed(text, last, normalize, token); });
  if (ends) it.words.begin_text();
}

}  // namespace plasmid::bpe
