// Corpora of byte-pair tokens: what open_corpus gives, kept in the cache.
#ifdef PLASMID_BPE
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "runtime/data/bpe/encoder.hpp"
#include "runtime/data/corpus.hpp"
#include "runtime/data/part_of_corpus.hpp"
#include "tests/support/expect_error.hpp"
#include "tests/support/packed.hpp"
#include "tests/support/temporary_folder.hpp"

namespace plasmid {
namespace {

class TokenCorpus : public testing::Test {
 protected:
  std::unique_ptr<Corpus> open(const std::string& name, const std::string& bytes,
                               const std::string& tokenizer = "gpt2") {
    write_bytes(folder / name, bytes);
    return open_corpus(options(name, tokenizer));
  }
  CorpusOptions options(const std::string& name, const std::string& tokenizer) const {
    CorpusOptions options{.files = {folder / name}, .tokenizer = Tokenizer::bpe, .cache = folder / "cache"};
    options.tokenizer_file = std::filesystem::path(PLASMID_SOURCE_DIR) / "tests/reference/bpe" / (tokenizer + ".json");
    return options;
  }
  std::vector<bpe::Token> encoded(const std::string& text, const std::string& tokenizer = "gpt2") const {
    bpe::Encoder encoder(options("", tokenizer).tokenizer_file);
    std::vector<bpe::Token> tokens;
    encoder.encode(text, true, "text", tokens);
    return tokens;
  }
  static std::string text(unsigned seed, int words) {
    std::mt19937 random(seed);
    std::string text;
    for (int i = 0; i < words; ++i) {
      static const char* const some[] = {"the", " world", "'s", " 12", "\n\n", " caf\xc3\xa9", " \xf0\x9f\x98\x80",
                                         "  ",  "ing",    "."};
      text += some[random() % std::size(some)];
    }
    return text;
  }

  TemporaryFolder folder;
};

void expect_holds(Corpus& corpus, const std::vector<std::vector<bpe::Token>>& documents) {
  std::vector<std::int32_t> ids;
  std::vector<Index> begins, bytes = {0};
  for (const auto& document : documents) {
    begins.push_back(static_cast<Index>(ids.size()));
    for (const bpe::Token& token : document) ids.push_back(token.id), bytes.push_back(bytes.back() + token.bytes);
  }
  const auto size = static_cast<Index>(ids.size());
  ASSERT_EQ(corpus.size(), size);
  EXPECT_EQ(corpus.record_begins(0, size), begins);
  std::mt19937 random(1);
  for (int trial = 0; trial < 100; ++trial) {
    Index begin = static_cast<Index>(random()) % (size + 1), end = static_cast<Index>(random()) % (size + 1);
    if (begin > end) std::swap(begin, end);
    if (trial == 0) begin = 0, end = size;
    const auto piece = corpus.read(begin, end);
    ASSERT_EQ(piece.tokens, RecycledVector<std::int32_t>(ids.begin() + begin, ids.begin() + end));
    ASSERT_EQ(piece.counts, RecycledVector<std::uint8_t>(piece.tokens.size(), 1));
    ASSERT_EQ(corpus.bytes(begin, end), bytes[static_cast<std::size_t>(end)] - bytes[static_cast<std::size_t>(begin)]);
  }
}

TEST_F(TokenCorpus, HoldsTheTokensOfAText) {
  const std::string bytes = text(1, 400'000);  // more than a part of a megabyte
  ASSERT_GT(bytes.size(), std::size_t{1} << 20);
  const auto corpus = open("a.txt", bytes);
  EXPECT_EQ(corpus->vocabulary(), 420);
  expect_holds(*corpus, {encoded(bytes)});
  EXPECT_EQ(corpus->bytes(0, corpus->size()), static_cast<Index>(bytes.size()));
  expect_holds(*open("b.gz", gzipped(bytes)), {encoded(bytes)});
}

TEST_F(TokenCorpus, HoldsTheTokensOfEachDocument) {
  std::string lines;
  std::vector<std::vector<bpe::Token>> documents;
  for (unsigned i = 0; i < 300; ++i) {
    const std::string document = text(i, 1 + static_cast<int>(i));
    lines += nlohmann::json{{"text", document}}.dump() + "\n";
    documents.push_back(encoded(document, "llama2"));
  }
  expect_holds(*open("a.jsonl", lines, "llama2"), documents);
}

TEST_F(TokenCorpus, CountsTheBytesOfLongTokens) {
  nlohmann::json content = nlohmann::json::parse(read_bytes(options("", "gpt2").tokenizer_file));
  const std::string special = "<|" + std::string(300, 'z') + "|>";
  content["added_tokens"].push_back({{"id", 420}, {"content", special}, {"normalized", false}});
  write_bytes(folder / "tokenizer.json", content.dump());
  write_bytes(folder / "a.txt", "one" + special + " two " + special);
  CorpusOptions with = options("a.txt", "gpt2");
  with.tokenizer_file = folder / "tokenizer.json";
  const auto corpus = open_corpus(with);
  EXPECT_EQ(corpus->vocabulary(), 421);
  const auto tokens = corpus->read(0, corpus->size()).tokens;
  const auto first = std::ranges::find(tokens, 420) - tokens.begin();
  EXPECT_EQ(corpus->bytes(0, first), 3);
  EXPECT_EQ(corpus->bytes(0, first + 1), 3 + 304);
  EXPECT_EQ(corpus->bytes(first + 1, corpus->size()), 5 + 304);
}

TEST_F(TokenCorpus, IsMadeOnceForEachTextAndTokenizer) {
  const auto made = [&] {
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::directory_iterator(folder / "cache"))
      files.push_back(entry.path().filename());
    std::ranges::sort(files);
    return files;
  };
  open("a.txt", "some text");
  const auto first = made();
  ASSERT_EQ(first.size(), 1u);
  const auto time = std::filesystem::last_write_time(folder / "cache" / first[0]);
  open_corpus(options("a.txt", "gpt2"));
  EXPECT_EQ(made(), first);
  EXPECT_EQ(std::filesystem::last_write_time(folder / "cache" / first[0]), time);
  EXPECT_EQ(open_corpus(options("a.txt", "llama2"))->read(0, 1).tokens,
            RecycledVector<std::int32_t>{encoded("some text", "llama2")[0].id});
  EXPECT_EQ(made().size(), 2u);
  expect_holds(*open("a.txt", "another text"), {encoded("another text")});
  EXPECT_EQ(made().size(), 2u);
}

TEST_F(TokenCorpus, ItsPartsKnowTheirBytes) {
  const std::shared_ptr<Corpus> whole = open("a.txt", text(3, 100));
  const auto part = part_of(whole, {10, 30});
  EXPECT_EQ(part->bytes(5, 15), whole->bytes(15, 25));
}

TEST_F(TokenCorpus, LeavesOutDocumentsWithoutTokens) {
  nlohmann::json content = nlohmann::json::parse(read_bytes(options("", "gpt2").tokenizer_file));
  content["pre_tokenizer"] = {{"type", "Sequence"},
                              {"pretokenizers",
                               {{{"type", "Split"}, {"pattern", {{"String", "x"}}}, {"behavior", "Removed"}},
                                {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
  write_bytes(folder / "tokenizer.json", content.dump());
  write_bytes(folder / "a.jsonl", "{\"text\": \"x\"}\n{\"text\": \"axb\"}\n{\"text\": \"xx\"}\n");
  CorpusOptions with = options("a.jsonl", "gpt2");
  with.tokenizer_file = folder / "tokenizer.json";
  const auto corpus = open_corpus(with);
  EXPECT_EQ(corpus->size(), 2);
  EXPECT_EQ(corpus->records(), 1);
  EXPECT_EQ(corpus->warnings(),
            std::vector<std::string>{(folder / "a.jsonl").string() + ": 2 documents give no token and are left out"});
  write_bytes(folder / "a.jsonl", "{\"text\": \"x\"}\n");
  expect_error(ErrorCode::data, {"a.jsonl: holds no token"}, [&] { open_corpus(with); });
}

TEST_F(TokenCorpus, RefusesWhatItCannotRead) {
  expect_error(ErrorCode::config, {"a.fa: is FASTA", "BPE"}, [&] { open("a.fa", ">x\nACGT\n"); });
  expect_error(ErrorCode::data, {(folder / "a.txt").string() + ": byte 4 starts no character"},
               [&] { open("a.txt", "text\xff"); });
  expect_error(ErrorCode::data, {"empty"}, [&] { open("a.txt", ""); });
  expect_error(ErrorCode::no_input, {"none.json"}, [&] { open("a.txt", "x", "none"); });
  EXPECT_EQ(vocabulary_of(Tokenizer::byte), 256);
  EXPECT_EQ(vocabulary_of(Tokenizer::nucleotide), 5);
}

}  // namespace
}  // namespace plasmid
#endif
