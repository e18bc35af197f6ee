#include "runtime/data/corpus.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "runtime/base/check.hpp"
#include "runtime/base/error.hpp"
#include "runtime/data/alphabet.hpp"
#include "runtime/data/file_kind.hpp"
#include "runtime/data/source.hpp"
#ifdef PLASMID_BPE
#include "runtime/data/bpe/encoder.hpp"
#include "runtime/data/bpe/token_source.hpp"
#endif

namespace plasmid {
namespace {

class FilesCorpus final : public Corpus {
 public:
  explicit FilesCorpus(const CorpusOptions& options)
      : tokenizer_(options.tokenizer),
        alphabet_(make_alphabet(options.tokenizer, options.lower_case)),
        vocabulary_(vocabulary_of(options.tokenizer, options.tokenizer_file)) {
    if (options.files.empty()) throw Error(ErrorCode::config, "data.files: names no file");
    if (options.tokenizer != Tokenizer::nucleotide && options.lower_case == LowerCase::mask)
      throw Error(ErrorCode::config, "data.lower_case: MASK needs data.tokenizer NUCLEOTIDE");
    for (const std::filesystem::path& path : options.files) {
      sources_.push_back(open(path, options));
      begins_.push_back(begins_.back() + sources_.back()->size());
    }
  }

  Index size() const override { return begins_.back(); }
  int vocabulary() const override { return vocabulary_; }
  const std::vector<std::string>& warnings() const override { return warnings_; }

  Piece read(Index begin, Index end) override {
    PLASMID_CHECK(0 <= begin && begin <= end && end <= size()) << "[" << begin << ", " << end << ") of " << size();
    Piece piece;
    piece.tokens.reserve(static_cast<std::size_t>(end - begin));
    piece.counts.reserve(static_cast<std::size_t>(end - begin));
    for_each_source(begin, end, [&](std::size_t i, Index from, Index to) {
      sources_[i]->read(from - begins_[i], to - begins_[i], piece);
    });
    return piece;
  }

  Index bytes(Index begin, Index end) override {
    Index sum = 0;
    for_each_source(begin, end, [&](std::size_t i, Index from, Index to) {
      sum += sources_[i]->bytes(from - begins_[i], to - begins_[i]);
    });
    return sum;
  }

  std::vector<Index> record_begins(Index begin, Index end) const override {
    std::vector<Index> found;
    for_each_source(begin, end, [&](std::size_t i, Index from, Index to) {
      const std::span<const Index> records = sources_[i]->record_begins();
      for (auto record = std::ranges::lower_bound(records, from - begins_[i]);
           record != records.end() && *record < to - begins_[i]; ++record)
        found.push_back(begins_[i] + *record);
    });
    return found;
  }

  Index records() const override {
    Index sum = 0;
    for (const auto& source : sources_) sum += static_cast<Index>(source->record_begins().size());
    return sum;
  }

 private:
  std::unique_ptr<Source> open(const std::filesystem::path& path, const CorpusOptions& options) {
    const Cache cache(options.cache, options.say);
#ifdef PLASMID_BPE
    if (tokenizer_ == Tokenizer::bpe) return bpe::open_tokens(path, cache, options, warnings_);
#endif
    const FileKind kind = file_kind(path);
    const bool letters = tokenizer_ == Tokenizer::nucleotide;
    if (kind == FileKind::json_lines)
      return open_json_lines(path, cache, options.json_field, letters ? &alphabet_ : nullptr, warnings_);
    if (kind == FileKind::text && !letters) return open_text(path, cache);
    return open_sequence(path, cache, alphabet_, warnings_);
  }

  // Calls visit(source, from, to) for the parts of [begin, end) that each file holds.
  template <class Visit>
  void for_each_source(Index begin, Index end, Visit&& visit) const {
    auto i = static_cast<std::size_t>(std::ranges::upper_bound(begins_, begin) - begins_.begin()) - 1;
    for (; begin < end && i < sources_.size(); ++i) {
      const Index to = std::min(end, begins_[i + 1]);
      visit(i, begin, to);
      begin = to;
    }
  }

  Tokenizer tokenizer_;
  Alphabet alphabet_;
  int vocabulary_;
  std::vector<std::unique_ptr<Source>> sources_;
  std::vector<Index> begins_ = {0};  // first token of each file, then the total
  std::vector<std::string> warnings_;
};

}  // namespace

int vocabulary_of(Tokenizer tokenizer, [[maybe_unused]] const std::filesystem::path& tokenizer_file) {
  if (tokenizer != Tokenizer::bpe) return tokenizer == Tokenizer::byte ? 256 : 5;
#ifdef PLASMID_BPE
  return bpe::Encoder(tokenizer_file).vocabulary();
#else
  throw Error(ErrorCode::config, "data.tokenizer: BPE is not in this build (PLASMID_BPE)");
#endif
}

std::unique_ptr<Corpus> open_corpus(const CorpusOptions& options) { return std::make_unique<FilesCorpus>(options); }

}  // namespace plasmid
