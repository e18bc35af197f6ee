#include "runtime/data/corpus.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/support/expect_error.hpp"
#include "tests/support/packed.hpp"
#include "tests/support/temporary_folder.hpp"

namespace plasmid {
namespace {

std::string text_of(std::span<const std::int32_t> tokens) {
  std::string text;
  for (const std::int32_t token : tokens) text += static_cast<char>(token);
  return text;
}

class CorpusTest : public testing::Test {
 protected:
  std::unique_ptr<Corpus> open(const std::vector<std::string>& names, Tokenizer tokenizer = Tokenizer::byte,
                               LowerCase lower_case = LowerCase::fold) {
    CorpusOptions options{{}, tokenizer, lower_case, folder / "cache"};
    for (const std::string& name : names) options.files.push_back(folder / name);
    return open_corpus(options);
  }
  std::unique_ptr<Corpus> open_text(const std::string& name, const std::string& text,
                                    Tokenizer tokenizer = Tokenizer::byte, LowerCase lower_case = LowerCase::fold) {
    write_bytes(folder / name, text);
    return open({name}, tokenizer, lower_case);
  }
  void expect_refused(const std::string& name, const std::string& text, std::vector<std::string> words,
                      Tokenizer tokenizer = Tokenizer::byte) {
    words.push_back((folder / name).string());
    expect_error(ErrorCode::data, words, [&] { open_text(name, text, tokenizer); });
  }

  TemporaryFolder folder;
};

// A random FASTA and what it holds, by the plainest means.
struct Sample {
  std::string file, letters;
  std::vector<Index> begins;
};

Sample random_fasta(unsigned seed, int records, int most_lines) {
  std::mt19937 random(seed);
  const auto draw = [&](int below) { return static_cast<int>(random() % static_cast<unsigned>(below)); };
  Sample sample;
  for (int record = 0; record < records; ++record) {
    sample.file += draw(4) ? ">same name again\n" : ">\r\n";
    sample.begins.push_back(static_cast<Index>(sample.letters.size()));
    const bool uneven = draw(3) == 0, windows = draw(3) == 0;
    const int width = 1 + draw(90), lines = 1 + draw(most_lines);
    for (int line = 0; line < lines; ++line) {
      const int letters = uneven ? draw(200) + (line == 0) : line + 1 < lines ? width : 1 + draw(width);
      for (int i = 0; i < letters; ++i)
        sample.letters += "ACGTNacgtRUX"[draw(12)], sample.file += sample.letters.back();
      if (uneven && draw(5) == 0) sample.file += " \t";
      if (record + 1 < records || line + 1 < lines) sample.file += windows ? "\r\n" : "\n";
    }
  }
  return sample;
}

void expect_same(Corpus& corpus, const Sample& sample, unsigned seed) {
  const auto size = static_cast<Index>(sample.letters.size());
  ASSERT_EQ(corpus.size(), size);
  EXPECT_EQ(corpus.record_begins(0, size), sample.begins);
  EXPECT_EQ(corpus.records(), static_cast<Index>(sample.begins.size()));
  EXPECT_EQ(text_of(corpus.read(0, size).tokens), sample.letters);
  std::mt19937 random(seed);
  for (int trial = 0; trial < 200; ++trial) {
    Index begin = static_cast<Index>(random()) % (size + 1), end = static_cast<Index>(random()) % (size + 1);
    if (begin > end) std::swap(begin, end);
    if (trial % 2) end = std::min(end, begin + 5);
    const auto piece = corpus.read(begin, end);
    ASSERT_EQ(text_of(piece.tokens),
              sample.letters.substr(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)));
    ASSERT_EQ(piece.counts, RecycledVector<std::uint8_t>(static_cast<std::size_t>(end - begin), 1));
    std::vector<Index> begins;
    std::ranges::copy_if(sample.begins, std::back_inserter(begins), [&](Index at) { return begin <= at && at < end; });
    ASSERT_EQ(corpus.record_begins(begin, end), begins);
  }
}

TEST_F(CorpusTest, AnyRangeOfAnyFastaHoldsItsLetters) {
  for (unsigned seed = 1; seed <= 12; ++seed) {
    SCOPED_TRACE(seed);
    const Sample sample = random_fasta(seed, 1 + static_cast<int>(seed * 3), 1 + static_cast<int>(seed * 5));
    expect_same(*open_text("raw.fa", sample.file), sample, seed);
    expect_same(*open_text("packed.FNA.gz", gzipped(sample.file)), sample, seed);
#ifdef PLASMID_HTS
    expect_same(*open_text("blocks.fasta.gz", bgzipped(sample.file, 777)), sample, seed);
#endif
  }
}

TEST_F(CorpusTest, JoinsFilesInTheirOrder) {
  write_bytes(folder / "a.fa", ">x\nAC\n>y\nG\n");
  write_bytes(folder / "b.txt", "hello\r\n");
  write_bytes(folder / "c.fa.gz", gzipped(">z\nTT"));
  const auto corpus = open({"a.fa", "b.txt", "c.fa.gz"});
  EXPECT_EQ(text_of(corpus->read(0, 12).tokens), "ACGhello\r\nTT");
  EXPECT_EQ(text_of(corpus->read(2, 11).tokens), "Ghello\r\nT");
  EXPECT_EQ(corpus->record_begins(1, 12), (std::vector<Index>{2, 3, 10}));
  EXPECT_EQ(corpus->records(), 4);
  EXPECT_EQ(corpus->vocabulary(), 256);
  EXPECT_TRUE(corpus->warnings().empty());
}

TEST_F(CorpusTest, ReadsNucleotides) {
  const std::string file = ">r\nACGTNacgtn\nUuRYSWKMBDHVXrx\n";
  const RecycledVector<std::int32_t> tokens = {0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 3, 3, 4,
                                               4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4};
  const auto folded = open_text("a.fa", file, Tokenizer::nucleotide)->read(0, 25);
  EXPECT_EQ(folded.tokens, tokens);
  EXPECT_EQ(std::ranges::count(folded.counts, 1), 25);
  const auto corpus = open_text("a.fa", file, Tokenizer::nucleotide, LowerCase::mask);
  EXPECT_EQ(corpus->vocabulary(), 5);
  const auto masked = corpus->read(0, 25);
  EXPECT_EQ(masked.tokens, tokens);
  EXPECT_EQ(masked.counts,
            (RecycledVector<std::uint8_t>{1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0}));
}

TEST_F(CorpusTest, ReadsNucleotidesOfPlainText) {
  const auto corpus = open_text("a.txt", "AC\n\nGTN\r\nT", Tokenizer::nucleotide);
  EXPECT_EQ(corpus->read(0, corpus->size()).tokens, (RecycledVector<std::int32_t>{0, 1, 2, 3, 4, 3}));
  EXPECT_EQ(corpus->records(), 1);
  expect_refused("b.txt", "ACGT\nAC GT\n", {"line 2, column 3", "blank inside"}, Tokenizer::nucleotide);
  expect_refused("b.txt", ">r\nACGT", {"line 1", "FASTA"}, Tokenizer::nucleotide);
}

TEST_F(CorpusTest, ReadsTextByteForByte) {
  std::string text;
  for (int i = 0; i < 3'000'000; ++i) text += static_cast<char>(i * 37 + i / 999);
  expect_same(*open_text("raw", text), {"", text, {0}}, 1);
  expect_same(*open_text("packed", gzipped(text)), {"", text, {0}}, 2);
#ifdef PLASMID_HTS
  expect_same(*open_text("blocks.gz", bgzipped(text)), {"", text, {0}}, 3);
#endif
}

TEST_F(CorpusTest, ReadsTheBundledGenome) {
  const auto corpus = open_corpus({{std::filesystem::path(PLASMID_SOURCE_DIR) / "cluster/data/lambda_phage.fa.gz"},
                                   Tokenizer::nucleotide,
                                   LowerCase::fold,
                                   folder / "cache"});
  ASSERT_EQ(corpus->size(), 48'502);
  const auto tokens = corpus->read(0, corpus->size()).tokens;
  EXPECT_EQ(std::ranges::count(tokens, 1) + std::ranges::count(tokens, 2), 11'362 + 12'820);
  const std::vector<std::int32_t> first(tokens.begin(), tokens.begin() + 12);
  EXPECT_EQ(first, (std::vector<std::int32_t>{2, 2, 2, 1, 2, 2, 1, 2, 0, 1, 1, 3}));
}

TEST_F(CorpusTest, LeavesEmptyRecordsOutAndSaysSo) {
  const auto corpus = open_text("a.fa", "\n>none\n>one x\nAC\n>two\n\n \n>three\nG\n>last");
  EXPECT_EQ(text_of(corpus->read(0, corpus->size()).tokens), "ACG");
  EXPECT_EQ(corpus->record_begins(0, 3), (std::vector<Index>{0, 2}));
  ASSERT_EQ(corpus->warnings().size(), 1u);
  EXPECT_EQ(corpus->warnings()[0],
            (folder / "a.fa").string() + ": 3 records are empty and left out, the first \"none\" at line 2");
}

TEST_F(CorpusTest, TakesManyShortRecords) {
  Sample sample;
  for (int i = 0; i < 200'000; ++i) {
    sample.begins.push_back(static_cast<Index>(sample.letters.size()));
    const std::string letters =
        std::string("ACGTA").substr(static_cast<std::size_t>(i % 3), 1 + static_cast<std::size_t>(i % 2));
    sample.letters += letters;
    sample.file += ">r" + std::to_string(i) + "\n" + letters + "\n";
  }
  expect_same(*open_text("reads.fa", sample.file), sample, 1);
}

TEST_F(CorpusTest, RefusesWhatIsNoSequence) {
  expect_refused("a.fa", ">one\nACGT\n>two words\nAC\nGG0T\n", {"record \"two\"", "line 5, column 3", "'0'"});
  expect_refused("a.fa", std::string(">one\nAC") + '\0' + "GT\n", {"record \"one\"", "line 2, column 3", "0x00"});
  expect_refused("a.fa", ">one\nAC\xffGT\n", {"record \"one\"", "line 2, column 3", "0xff"});
  expect_refused("a.fa", ">one\nACGT\nMKEL\n", {"record \"one\"", "line 3, column 3", "'E' is no nucleotide"},
                 Tokenizer::nucleotide);
  expect_refused("a.fa", ">a\tb\x01\nAC>GT\n", {"record \"a\"", "line 2, column 3", "'>'"});
  expect_refused("a.fa", "ACGT\n>one\nACGT\n", {"line 1", "'>'"});
  expect_refused("a.fa", "@read\nACGT\n+\n!!!!\n", {"line 1, column 1", "'@'"});
  expect_refused("a.fa", ">one\nAC GT\n", {"line 2, column 3", "a blank inside"});
  const std::string long_name(1000, 'n');
  expect_refused("a.fa", '>' + long_name + "\n1\n", {long_name.substr(0, 120) + '"', "line 2"});
}

TEST_F(CorpusTest, RefusesMissingEmptyAndDamagedFiles) {
  expect_error(ErrorCode::config, {"data.files"}, [&] { open({}); });
  expect_error(ErrorCode::config, {"lower_case"}, [&] { open({"a"}, Tokenizer::byte, LowerCase::mask); });
  expect_error(ErrorCode::no_input, {(folder / "none.fa").string()}, [&] { open({"none.fa"}); });
  for (const std::string name : {"a.txt", "a.fa", "a.fa.gz", "a.gz"}) expect_refused(name, "", {"empty"});
  expect_refused("a.fa", ">one\n>two\n", {"no sequence"});
  expect_refused("a.fa", "\n\n", {"no sequence"});
  expect_refused("a.txt", gzipped(""), {"empty"});
  expect_refused("a.fa.gz", ">one\nACGT\n", {"not gzip"});
  std::string text;
  for (int i = 0; i < 5000; ++i) text += static_cast<char>('a' + i * i % 26);
  const std::string packed = gzipped(text);
  for (std::size_t cut = 2; cut < packed.size(); cut += 1 + cut / 8)
    expect_refused("a.gz", packed.substr(0, cut), {"gzip"});
  std::string damaged = packed;
  damaged[damaged.size() - 6] ^= 1;  // the checksum
  expect_refused("a.gz", damaged, {"damaged gzip"});
}

#ifdef PLASMID_HTS
TEST_F(CorpusTest, RefusesTruncatedAndDamagedBgzip) {
  const std::string letters(3000, 'A'), packed = bgzipped(">one\n" + letters, 500);
  EXPECT_EQ(open_text("a.fa.gz", packed)->size(), 3000);
  for (std::size_t cut = 18; cut < packed.size(); cut += 7) expect_refused("a.fa.gz", packed.substr(0, cut), {});
  expect_refused("a.fa.gz", packed.substr(0, packed.size() - 28), {"truncated", "end mark"});
  expect_refused("a.fa.gz", packed.substr(0, packed.size() - 28) + gzipped("ACGT"), {"bgzip"});
  for (std::size_t place = 18; place < packed.size() - 28; ++place) {
    std::string damaged = packed;
    damaged[place] ^= 0x40;
    try {
      const auto corpus = open_text("a.fa.gz", damaged);
      EXPECT_EQ(text_of(corpus->read(0, corpus->size()).tokens), letters) << "byte " << place;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::data) << error.what();
    }
  }
}
#endif

TEST_F(CorpusTest, NoticesAFileThatChangesUnderIt) {
  auto corpus = open_text("a.fa", ">one\nACGTACGT\nACGTACGT\n");
  write_bytes(folder / "a.fa", ">one longer name\nACGTACGT\n");
  expect_error(ErrorCode::data, {(folder / "a.fa").string(), "in use"}, [&] { corpus->read(0, 16); });
  write_bytes(folder / "a.fa", ">one\n");
  expect_error(ErrorCode::data, {(folder / "a.fa").string(), "in use"}, [&] { corpus->read(0, 16); });
}

}  // namespace
}  // namespace plasmid
