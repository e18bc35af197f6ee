#include <algorithm>
#include <utility>

#include "runtime/base/error.hpp"
#include "runtime/data/bytes.hpp"
#include "runtime/data/file_kind.hpp"
#include "runtime/data/sequence_index.hpp"
#include "runtime/data/source.hpp"

namespace plasmid {
namespace {

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

}  // namespace

std::unique_ptr<Source> open_sequence(const std::filesystem::path& path, const Cache& cache, const Alphabet& alphabet,
                                      std::vector<std::string>& warnings) {
  using Form = SequenceScanner::Form;
  SequenceScanner scanner(path.string(), file_kind(path) == FileKind::fasta ? Form::fasta : Form::plain, alphabet);
  auto bytes = open_bytes(path, cache, [&](std::span<const char> part) { scanner.scan(part); });
  SequenceIndex index = scanner.finish();
  warnings.insert(warnings.end(), index.warnings.begin(), index.warnings.end());
  return std::make_unique<SequenceSource>(path.string(), alphabet, std::move(bytes), std::move(index));
}

}  // namespace plasmid
