#include "runtime/data/corpus_digest.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

#include "tests/support/temporary_folder.hpp"

namespace plasmid {
namespace {

class CorpusDigestTest : public testing::Test {
 protected:
  std::string digest(const std::string& name, const std::string& content, Tokenizer tokenizer = Tokenizer::byte,
                     LowerCase lower_case = LowerCase::fold) {
    write_bytes(folder_ / name, content);
    const auto corpus = open_corpus({.files = {folder_ / name}, .tokenizer = tokenizer, .lower_case = lower_case});
    return digest_of(*corpus);
  }
  static std::string letters(std::size_t count) {
    std::string text(count, ' ');
    std::uint32_t state = 7;
    for (char& c : text) c = "ACGT"[(state = state * 1664525u + 1013904223u) >> 30];
    return text;
  }
  TemporaryFolder folder_;
};

TEST_F(CorpusDigestTest, IsOfTheTokensHoweverTheyAreWritten) {
  const std::string text = letters(5000);
  const std::string plain = digest("a.fa", ">x\n" + text + "\n", Tokenizer::nucleotide);
  EXPECT_EQ(plain, digest("b.fa", ">y\r\n" + text.substr(0, 999) + "\r\n" + text.substr(999), Tokenizer::nucleotide));
  EXPECT_EQ(plain.size(), 32u);
  EXPECT_NE(plain, digest("a.fa", ">x\n" + text.substr(0, 999) + "\n>z\n" + text.substr(999), Tokenizer::nucleotide))
      << "another record";
  EXPECT_NE(plain, digest("a.fa", ">x\n" + text + "A\n", Tokenizer::nucleotide)) << "longer";
}

TEST_F(CorpusDigestTest, FindsEveryChangedTokenOfASmallCorpus) {
  std::string text = letters(300);
  const std::string whole = digest("a.txt", text);
  for (std::size_t at = 0; at < text.size(); at += 23) {
    const char letter = std::exchange(text[at], 'N');
    EXPECT_NE(digest("a.txt", text), whole) << at;
    text[at] = letter;
  }
}

TEST_F(CorpusDigestTest, CountsWhichLabelsCount) {
  EXPECT_NE(digest("a.fa", ">x\nACGTacgt\n", Tokenizer::nucleotide, LowerCase::mask),
            digest("a.fa", ">x\nACGTACGT\n", Tokenizer::nucleotide, LowerCase::mask));
}

TEST_F(CorpusDigestTest, ReadsBothEndsOfALargeCorpusAndStretchesBetween) {
  constexpr std::size_t kSize = (std::size_t{1} << 24) + 12345;
  std::string text = letters(kSize);
  const std::string whole = digest("a.txt", text);
  EXPECT_EQ(digest("a.txt", text), whole);
  for (const std::size_t at : {std::size_t{0}, std::size_t{4095}, kSize - 4096, kSize - 1}) {
    const char letter = std::exchange(text[at], 'N');
    EXPECT_NE(digest("a.txt", text), whole) << at;
    text[at] = letter;
  }
  std::swap_ranges(text.begin() + 100'000, text.begin() + 150'000, text.begin() + 9'000'000);
  EXPECT_NE(digest("a.txt", text), whole) << "another order";
}

}  // namespace
}  // namespace plasmid
