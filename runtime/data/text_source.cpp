#include <algorithm>
#include <utility>

#include "runtime/base/error.hpp"
#include "runtime/data/bytes.hpp"
#include "runtime/data/documents.hpp"
#include "runtime/data/source.hpp"

namespace plasmid {
namespace {

// Every byte is a token: itself, or where `letters` are given the one that they name.
class TextSource final : public Source {
 public:
  TextSource(std::unique_ptr<Bytes> bytes, std::vector<Index> begins, const Alphabet* letters)
      : bytes_(std::move(bytes)), begins_(std::move(begins)), letters_(letters) {}
  Index size() const override { return bytes_->size(); }
  std::span<const Index> record_begins() const override { return begins_; }
  void read(Index begin, Index end, Corpus::Piece& piece) override {
    constexpr Index kChunk = 1 << 20;
    std::vector<char> chunk(static_cast<std::size_t>(std::min(kChunk, end - begin)));
    for (; begin < end; begin += kChunk) {
      const std::span<char> part(chunk.data(), static_cast<std::size_t>(std::min(kChunk, end - begin)));
      bytes_->read(begin, part);
      for (const char letter : part) {
        const auto byte = static_cast<unsigned char>(letter);
        piece.tokens.push_back(letters_ ? letters_->token[byte] : byte);
        piece.counts.push_back(letters_ ? letters_->counts[byte] : 1);
      }
    }
  }

 private:
  std::unique_ptr<Bytes> bytes_;
  std::vector<Index> begins_;
  const Alphabet* letters_;
};

}  // namespace

std::unique_ptr<Source> open_text(const std::filesystem::path& path, const Cache& cache) {
  auto source = std::make_unique<TextSource>(open_bytes(path, cache), std::vector<Index>{0}, nullptr);
  if (source->size() == 0) throw Error(ErrorCode::data, path.string() + ": is empty");
  return source;
}

std::unique_ptr<Source> open_json_lines(const std::filesystem::path& path, const Cache& cache, const std::string& field,
                                        const Alphabet* letters, std::vector<std::string>& warnings) {
  Documents documents = json_documents(InputFile(path), cache, field, letters);
  warnings.insert(warnings.end(), documents.warnings.begin(), documents.warnings.end());
  return std::make_unique<TextSource>(std::move(documents.text), std::move(documents.begins), letters);
}

}  // namespace plasmid
