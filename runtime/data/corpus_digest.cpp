#include "runtime/data/corpus_digest.hpp"

#include "runtime/io/digest.hpp"

namespace plasmid {
namespace {

constexpr Index kWhole = 1 << 24, kStretches = 1024, kStretch = 4096;

template <class Numbers>
void add(Digest& digest, const Numbers& numbers) {
  digest.update(std::as_bytes(std::span(numbers)));
}

void add_part(Digest& digest, Corpus& corpus, Index begin, Index end) {
  const Corpus::Piece piece = corpus.read(begin, end);
  add(digest, piece.tokens);
  add(digest, piece.counts);
  add(digest, corpus.record_begins(begin, end));
}

}  // namespace

std::string digest_of(Corpus& corpus) {
  const Index size = corpus.size();
  Digest digest;
  add(digest, std::vector<Index>{size});
  if (size <= kWhole) {
    constexpr Index kPart = 1 << 20;
    for (Index begin = 0; begin < size; begin += kPart) add_part(digest, corpus, begin, std::min(begin + kPart, size));
  } else {
    const Index last = size - kStretch;
    for (Index i = 0; i < kStretches; ++i) {
      const Index begin = last / (kStretches - 1) * i + last % (kStretches - 1) * i / (kStretches - 1);
      add_part(digest, corpus, begin, begin + kStretch);
    }
  }
  return digest.hex();
}

}  // namespace plasmid
