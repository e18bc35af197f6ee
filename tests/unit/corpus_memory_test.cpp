// What a corpus costs that is far larger than what is read of it.
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

#include "runtime/data/corpus.hpp"
#include "tests/support/temporary_folder.hpp"

namespace plasmid {
namespace {

// Restarts the kernel's peak of resident memory; false where it may not be.
bool restart_peak() {
  std::ofstream file("/proc/self/clear_refs");
  file << "5" << std::flush;
  return file.good();
}

Index peak_bytes() {
  std::ifstream file("/proc/self/status");
  for (std::string word; file >> word;)
    if (word == "VmHWM:") {
      Index kib = 0;
      file >> kib;
      return kib * 1024;
    }
  return 0;
}

std::string chunk_of(std::size_t size) {
  std::string letters(size, 'A');
  for (std::size_t i = 0; i < size; ++i) letters[i] = "ACGT"[(i * i + i / 7) % 4];
  return letters;
}

class LargeCorpus : public testing::Test {
 protected:
  void SetUp() override {
#ifdef __SANITIZE_ADDRESS__
    GTEST_SKIP() << "the sanitizer's own memory hides what is measured";
#endif
    if (!restart_peak()) GTEST_SKIP() << "the kernel does not restart its peak of resident memory";
  }
  // A read ahead, chunks of the pass, an index of few stripes; nothing that grows with the file.
  static constexpr Index kBound = 16 << 20;

  TemporaryFolder folder;
  const std::filesystem::path path = folder / "large.fa";
};

TEST_F(LargeCorpus, FastaCostsAWindowAndItsIndex) {
  const std::string chunk = chunk_of(1'000'000);
  {
    std::ofstream file(path, std::ios::binary);
    file << ">one line\n";
    for (int i = 0; i < 100; ++i) file << chunk;
    file << "\n>even lines\n";
    for (int i = 0; i < 1'000'000; ++i)
      file << std::string_view(chunk).substr(static_cast<std::size_t>(i) % 900'000, 60) << '\n';
  }
  ASSERT_TRUE(restart_peak());
  const Index before = peak_bytes();
  const auto corpus = open_corpus({{path}, Tokenizer::nucleotide});
  ASSERT_EQ(corpus->size(), 160'000'000);
  EXPECT_EQ(corpus->record_begins(0, corpus->size()), (std::vector<Index>{0, 100'000'000}));
  const auto piece = corpus->read(99'999'999, 100'060'001);
  EXPECT_EQ(piece.tokens.size(), 60'002u);
  const auto code = [&](char letter) { return static_cast<std::int32_t>(std::string("ACGTN").find(letter)); };
  EXPECT_EQ(piece.tokens.front(), code(chunk.back()));
  for (std::size_t i = 0; i < 60'000; i += 77)
    ASSERT_EQ(piece.tokens[1 + i], code(chunk[i / 60 + i % 60])) << "letter " << i << " of the second record";
  EXPECT_LT(peak_bytes() - before, kBound);
}

TEST_F(LargeCorpus, TextCostsAWindow) {
  write_bytes(folder / "text", "start");
  std::filesystem::resize_file(folder / "text", Index{3} << 30);  // a hole: it takes no disk
  ASSERT_TRUE(restart_peak());
  const Index before = peak_bytes();
  const auto corpus = open_corpus({{folder / "text"}});
  ASSERT_EQ(corpus->size(), Index{3} << 30);
  EXPECT_EQ(corpus->read(0, 6).tokens, (RecycledVector<std::int32_t>{'s', 't', 'a', 'r', 't', 0}));
  EXPECT_EQ(corpus->read((Index{3} << 30) - 100'000, Index{3} << 30).tokens.size(), 100'000u);
  EXPECT_LT(peak_bytes() - before, kBound);
}

}  // namespace
}  // namespace plasmid
