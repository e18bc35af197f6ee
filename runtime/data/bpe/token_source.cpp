#include "runtime/data/bpe/token_source.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "runtime/base/check.hpp"
#include "runtime/base/error.hpp"
#include "runtime/data/bpe/encoder.hpp"
#include "runtime/data/bytes.hpp"
#include "runtime/data/documents.hpp"
#include "runtime/data/file_kind.hpp"
#include "runtime/data/kept_file.hpp"
#include "runtime/io/digest.hpp"

namespace plasmid::bpe {
namespace {

// A kept token is its id in 4 bytes, then the bytes that it stands for in one; kMany says: look in the list.
constexpr std::size_t kTokenBytes = 5;
constexpr std::uint8_t kMany = 255;
enum Section : std::size_t { kTokens, kBegins, kLong, kWarnings };

struct LongToken {
  Index place = 0, bytes = 0;
};

class TokenWriter {
 public:
  TokenWriter(KeptWriter& to, std::string file, const CorpusOptions& options)
      : to_(to), file_(std::move(file)), encoder_(options.tokenizer_file), say_(options.say) {}

  void write(Documents& documents) {
    const Index size = documents.text->size();
    for (std::size_t i = 0; i < documents.begins.size(); ++i)
      write_document(*documents.text,
                     {documents.begins[i], i + 1 < documents.begins.size() ? documents.begins[i + 1] : size});
    if (begins_.empty()) throw Error(ErrorCode::data, file_ + ": holds no token");
    to_.end_section();
    to_.write(std::as_bytes(std::span(begins_)));
    to_.end_section();
    to_.write(std::as_bytes(std::span(long_)));
    to_.end_section();
    if (empty_ > 0) {
      const std::string line = file_ + ": " + std::to_string(empty_) +
                               (empty_ == 1 ? " document gives" : " documents give") + " no token and are left out";
      to_.write(std::as_bytes(std::span(line)));
    }
    to_.end_section();
  }

 private:
  void write_document(Bytes& text, Range document) {
    constexpr Index kChunk = 1 << 20;
    const Index first = count_;
    std::vector<Token> tokens;
    for (Index at = document.begin; at < document.end; at += kChunk) {
      std::string part(static_cast<std::size_t>(std::min(kChunk, document.end - at)), '\0');
      text.read(at, part);
      tokens.clear();
      encoder_.encode(part, at + kChunk >= document.end, file_, tokens);
      write(tokens);
      tell(std::min(at + kChunk, document.end), text.size());
    }
    if (count_ > first)
      begins_.push_back(first);
    else
      ++empty_;
  }

  void write(const std::vector<Token>& tokens) {
    std::vector<std::byte> packed(tokens.size() * kTokenBytes);
    std::byte* at = packed.data();
    for (const Token& token : tokens) {
      if (token.bytes >= kMany) long_.push_back({count_, token.bytes});
      const auto bytes = static_cast<std::uint8_t>(std::min<std::uint32_t>(token.bytes, kMany));
      std::memcpy(at, &token.id, sizeof token.id);
      std::memcpy(at + sizeof token.id, &bytes, 1);
      at += kTokenBytes;
      ++count_;
    }
    to_.write(packed);
  }

  void tell(Index done, Index all) {
    const auto now = std::chrono::steady_clock::now();
    if (!say_ || now - told_ < std::chrono::seconds(10)) return;
    told_ = now;
    say_("tokenizing " + file_ + ": " + std::to_string(100 * done / all) + " % of " + std::to_string(all >> 20) +
         " MiB");
  }

  KeptWriter& to_;
  std::string file_;
  Encoder encoder_;
  const std::function<void(const std::string&)>& say_;
  std::chrono::steady_clock::time_point told_ = std::chrono::steady_clock::now();
  std::vector<Index> begins_;
  std::vector<LongToken> long_;
  Index count_ = 0, empty_ = 0;
};

class TokenSource final : public Source {
 public:
  explicit TokenSource(KeptFile kept) : kept_(std::move(kept)) {
    PLASMID_CHECK(kept_.sections.size() == kWarnings + 1 && section(kTokens).size() % kTokenBytes == 0);
    begins_.resize(static_cast<std::size_t>(section(kBegins).size()) / sizeof(Index));
    read_section(kBegins, std::as_writable_bytes(std::span(begins_)));
    long_.resize(static_cast<std::size_t>(section(kLong).size()) / sizeof(LongToken));
    read_section(kLong, std::as_writable_bytes(std::span(long_)));
  }

  Index size() const override { return section(kTokens).size() / static_cast<Index>(kTokenBytes); }
  std::span<const Index> record_begins() const override { return begins_; }

  void read(Index begin, Index end, Corpus::Piece& piece) override {
    for_each(begin, end, [&](std::int32_t id, std::uint8_t) {
      piece.tokens.push_back(id);
      piece.counts.push_back(1);
    });
  }

  Index bytes(Index begin, Index end) override {
    Index sum = 0;
    for_each(begin, end, [&](std::int32_t, std::uint8_t bytes) { sum += bytes < kMany ? bytes : 0; });
    for (auto token = std::ranges::lower_bound(long_, begin, {}, &LongToken::place);
         token != long_.end() && token->place < end; ++token)
      sum += token->bytes;
    return sum;
  }

  std::string warning() const {
    std::string text(static_cast<std::size_t>(section(kWarnings).size()), '\0');
    read_section(kWarnings, std::as_writable_bytes(std::span(text)));
    return text;
  }

 private:
  Range section(Section which) const { return kept_.sections[which]; }
  void read_section(Section which, std::span<std::byte> to) const { read_bytes(section(which).begin, to); }
  void read_bytes(Index offset, std::span<std::byte> to) const {
    if (kept_.file.read_at(offset, to) != to.size())
      throw Error(ErrorCode::data, kept_.file.path().string() + ": became shorter while it was in use");
  }

  template <class Visit>
  void for_each(Index begin, Index end, Visit&& visit) const {
    constexpr Index kChunk = Index{1} << 18;
    std::vector<std::byte> chunk;
    for (; begin < end; begin += kChunk) {
      const auto count = static_cast<std::size_t>(std::min(kChunk, end - begin));
      chunk.resize(count * kTokenBytes);
      read_bytes(section(kTokens).begin + begin * static_cast<Index>(kTokenBytes), chunk);
      for (std::size_t i = 0; i < count; ++i) {
        std::int32_t id = 0;
        std::memcpy(&id, chunk.data() + i * kTokenBytes, sizeof id);
        visit(id, static_cast<std::uint8_t>(chunk[i * kTokenBytes + sizeof id]));
      }
    }
  }

  KeptFile kept_;
  std::vector<Index> begins_;
  std::vector<LongToken> long_;
};

Documents documents_of(const InputFile& file, const Cache& cache, const CorpusOptions& options) {
  const std::string path = file.path().string();
  switch (file_kind(path)) {
    case FileKind::json_lines:
      return json_documents(file, cache, options.json_field, nullptr);
    case FileKind::fasta:
      throw Error(ErrorCode::config,
                  path + ": is FASTA, which data.tokenizer BPE does not read; use NUCLEOTIDE or BYTE");
    case FileKind::text:
      break;
  }
  Documents documents{open_bytes(file.again(), cache), {0}, {}};
  if (documents.text->size() == 0) throw Error(ErrorCode::data, path + ": is empty");
  return documents;
}

}  // namespace

std::unique_ptr<Source> open_tokens(const std::filesystem::path& path, const Cache& cache, const CorpusOptions& options,
                                    std::vector<std::string>& warnings) {
  const InputFile file(path);  // one, so that the tokens are kept under the state of the text that gave them
  Documents documents = documents_of(file, cache, options);
  warnings.insert(warnings.end(), documents.warnings.begin(), documents.warnings.end());
  const std::string variant = "tokens of " + digest_of_file(options.tokenizer_file).xxh3_128 + " " + options.json_field;
  auto source = std::make_unique<TokenSource>(keep(file, cache, variant, ".tokens", [&](KeptWriter& to) {
    TokenWriter(to, path.string(), options).write(documents);
  }));
  if (const std::string line = source->warning(); !line.empty()) warnings.push_back(line);
  return source;
}

}  // namespace plasmid::bpe
