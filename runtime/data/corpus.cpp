#include "runtime/data/corpus.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "runtime/base/check.hpp"
#include "runtime/base/error.hpp"
#include "runtime/data/alphabet.hpp"
#include "runtime/data/bytes.hpp"
#include "runtime/data/file_kind.hpp"
#include "runtime/data/sequence_index.hpp"

namespace plasmid {
namespace {

// One file as a line of tokens.
class Source {
 public:
  virtual ~Source() = default;
  virtual Index size() const = 0;
  virtual void read(Index begin, Index end, Corpus::Piece& append_to) = 0;
  virtual std::span<const Index> record_begins() const = 0;
};

class TextSource final : public Source {
 public:
  explicit TextSource(std::unique_ptr<Bytes> bytes) : bytes_(std::move(bytes)) {}
  Index size() const override { return bytes_->size(); }
  std::span<const Index> record_begins() const override { return {&begin_, 1}; }
  void read(Index begin, Index end, Corpus::Piece& piece) override {
    constexpr Index kChunk = 1 << 20;
    std::vector<char> chunk(static_cast<std::size_t>(std::min(kChunk, end - begin)));
    for (; begin < end; begin += kChunk) {
      const std::span<char> part(chunk.data(), static_cast<std::size_t>(std::min(kChunk, end - begin)));
      bytes_->read(begin, part);
      for (const char byte : part) piece.tokens.push_back(static_cast<unsigned char>(byte));
    }
    piece.counts.resize(piece.tokens.size(), 1);
  }

 private:
  std::unique_ptr<Bytes> bytes_;
  static constexpr Index begin_ = 0;
};

// Shows bytes of a file by ascending ranges, reading ahead up to `last`, so that many short ranges cost few reads.
class ReadAhead {
 public:
  ReadAhead(Bytes& bytes, Index last) : bytes_(bytes), last_(last) {}
  // The bytes from `offset` on, at least one and at most `most`.
  std::span<const char> from(Index offset, Index most) {
    if (offset < begin_ || offset >= begin_ + static_cast<Index>(held_.size())) {
      constexpr Index kChunk = 1 << 18;
      held_.resize(static_cast<std::size_t>(std::min(kChunk, last_ - offset)));
      bytes_.read(offset, held_);
      begin_ = offset;
    }
    const auto skip = static_cast<std::size_t>(offset - begin_);
    return {held_.data() + skip, std::min(static_cast<std::size_t>(most), held_.size() - skip)};
  }

 private:
  Bytes& bytes_;
  Index begin_ = 0, last_;
  std::vector<char> held_;
};

class SequenceSource final : public Source {
 public:
  SequenceSource(std::string file, const Alphabet& alphabet, std::unique_ptr<Bytes> bytes, SequenceIndex index)
      : file_(std::move(file)), alphabet_(alphabet), bytes_(std::move(bytes)), index_(std::move(index)) {}
  Index size() const override { return index_.tokens; }
  std::span<const Index> record_begins() const override { return index_.record_begins; }

  void read(Index begin, Index end, Corpus::Piece& piece) override {
    if (begin == end) return;
    ReadAhead bytes(*bytes_, index_.offset_of(index_.stripe_of(end - 1), end - 1) + 1);
    for (std::size_t i = index_.stripe_of(begin); begin < end; ++i) {
      const Index stripe_end = std::min(end, index_.stripe_end(i)), letters = index_.stripes[i].letters_in_line;
      while (begin < stripe_end) {
        const Index in_line = letters == 0 ? stripe_end : letters - (begin - index_.stripes[i].token) % letters;
        const auto part = bytes.from(index_.offset_of(i, begin), std::min(in_line, stripe_end - begin));
        append(part, piece);
        begin += static_cast<Index>(part.size());
      }
    }
  }

 private:
  void append(std::span<const char> letters, Corpus::Piece& piece) const {
    for (const char letter : letters) {
      const auto place = static_cast<unsigned char>(letter);
      if (alphabet_.token[place] == Alphabet::kNone)
        throw Error(ErrorCode::data, file_ + ": was changed while it was in use");
      piece.tokens.push_back(alphabet_.token[place]);
      piece.counts.push_back(alphabet_.counts[place]);
    }
  }

  std::string file_;
  const Alphabet& alphabet_;
  std::unique_ptr<Bytes> bytes_;
  SequenceIndex index_;
};

class FilesCorpus final : public Corpus {
 public:
  explicit FilesCorpus(const CorpusOptions& options)
      : tokenizer_(options.tokenizer), alphabet_(make_alphabet(options.tokenizer, options.lower_case)) {
    if (options.files.empty()) throw Error(ErrorCode::config, "data.files: names no file");
    if (options.tokenizer != Tokenizer::nucleotide && options.lower_case == LowerCase::mask)
      throw Error(ErrorCode::config, "data.lower_case: MASK needs data.tokenizer NUCLEOTIDE");
    for (const std::filesystem::path& path : options.files) {
      sources_.push_back(open(path, options.cache));
      begins_.push_back(begins_.back() + sources_.back()->size());
    }
  }

  Index size() const override { return begins_.back(); }
  int vocabulary() const override { return tokenizer_ == Tokenizer::byte ? 256 : 5; }
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
  std::unique_ptr<Source> open(const std::filesystem::path& path, const std::filesystem::path& cache) {
    const bool fasta = file_kind(path) == FileKind::fasta;
    if (!fasta && tokenizer_ == Tokenizer::byte) {
      auto source = std::make_unique<TextSource>(open_bytes(path, cache));
      if (source->size() == 0) throw Error(ErrorCode::data, path.string() + ": is empty");
      return source;
    }
    using Form = SequenceScanner::Form;
    SequenceScanner scanner(path.string(), fasta ? Form::fasta : Form::plain, alphabet_);
    auto bytes = open_bytes(path, cache, [&](std::span<const char> part) { scanner.scan(part); });
    SequenceIndex index = scanner.finish();
    warnings_.insert(warnings_.end(), index.warnings.begin(), index.warnings.end());
    return std::make_unique<SequenceSource>(path.string(), alphabet_, std::move(bytes), std::move(index));
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
  std::vector<std::unique_ptr<Source>> sources_;
  std::vector<Index> begins_ = {0};  // first token of each file, then the total
  std::vector<std::string> warnings_;
};

}  // namespace

std::unique_ptr<Corpus> open_corpus(const CorpusOptions& options) { return std::make_unique<FilesCorpus>(options); }

}  // namespace plasmid
