// JSON Lines files, through open_corpus.
#include "runtime/data/documents.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <random>

#include "runtime/data/corpus.hpp"
#include "tests/support/expect_error.hpp"
#include "tests/support/packed.hpp"
#include "tests/support/temporary_folder.hpp"

namespace plasmid {
namespace {

using nlohmann::json;

class DocumentsTest : public testing::Test {
 protected:
  std::unique_ptr<Corpus> open(const std::string& name, const std::string& bytes, const std::string& field = "text",
                               Tokenizer tokenizer = Tokenizer::byte, LowerCase lower_case = LowerCase::fold) {
    write_bytes(folder / name, bytes);
    return open_corpus({{folder / name}, tokenizer, lower_case, folder / "cache", field});
  }
  std::vector<std::string> texts(const std::string& bytes, const std::string& field = "text") {
    return texts_of(*open("a.jsonl", bytes, field));
  }
  static std::vector<std::string> texts_of(Corpus& corpus) {
    std::vector<std::string> texts;
    std::vector<Index> begins = corpus.record_begins(0, corpus.size());
    begins.push_back(corpus.size());
    for (std::size_t i = 0; i + 1 < begins.size(); ++i) {
      texts.emplace_back();
      for (const std::int32_t token : corpus.read(begins[i], begins[i + 1]).tokens)
        texts.back() += static_cast<char>(token);
    }
    return texts;
  }
  void expect_refused(const std::string& bytes, std::vector<std::string> words, Tokenizer tokenizer = Tokenizer::byte) {
    SCOPED_TRACE(bytes.substr(0, 200));
    words.push_back((folder / "a.jsonl").string());
    expect_error(ErrorCode::data, words, [&] { open("a.jsonl", bytes, "text", tokenizer); });
  }

  TemporaryFolder folder;
};

using Texts = std::vector<std::string>;

TEST_F(DocumentsTest, AreTheFieldOfEachLine) {
  EXPECT_EQ(texts("{\"text\": \"one\"}\n{\"meta\": {\"text\": 5}, \"text\": \"two\", \"n\": [1, {\"text\": null}]}\n"),
            (Texts{"one", "two"}));
  EXPECT_EQ(texts("{\"text\": \"x\", \"body\": \"one\"}\r\n\r\n \t\n{\"body\":\"two\"}", "body"),
            (Texts{"one", "two"}));
  EXPECT_EQ(texts("\xef\xbb\xbf{\"text\": \"byte order mark\"}\n"), (Texts{"byte order mark"}));
}

TEST_F(DocumentsTest, DecodeEscapesToUtf8) {
  EXPECT_EQ(texts(R"({"text": "\"\\\/\b\f\n\r\t"})"), (Texts{"\"\\/\b\f\n\r\t"}));
  EXPECT_EQ(texts(R"({"text": "\u00e9\u4e2d\ud83d\ude00\uD83D\uDE00 é中😀\u007f"})"),
            (Texts{"\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80\xf0\x9f\x98\x80 é中😀\x7f"}));
  EXPECT_EQ(texts(R"({"text": "a\u0000b", "te\u0078t2": 1})"), (Texts{std::string("a\0b", 3)}));
  EXPECT_EQ(texts(R"({"t\u0065xt": "the name is escaped"})"), (Texts{"the name is escaped"}));
}

TEST_F(DocumentsTest, AnyRangeOfAnyPackingHoldsItsBytes) {
  std::mt19937 random(5);
  std::string lines, all;
  Texts expected;
  for (int i = 0; i < 3000; ++i) {
    std::string text(1 + random() % 900, ' ');
    for (char& c : text) c = static_cast<char>(random() % 128);
    expected.push_back(text), all += text;
    lines += json{{"id", i}, {"text", text}}.dump() + "\n";
  }
  for (const std::string name : {"a.jsonl", "b.JSONL.gz", "c.jsonl.gz"}) {
    std::string bytes = lines;
    if (name[0] == 'b') bytes = gzipped(lines);
#ifdef PLASMID_HTS
    if (name[0] == 'c') bytes = bgzipped(lines);
#else
    if (name[0] == 'c') continue;
#endif
    const auto corpus = open(name, bytes);
    EXPECT_EQ(texts_of(*corpus), expected) << name;
    for (int trial = 0; trial < 50; ++trial) {
      Index begin = static_cast<Index>(random() % all.size()), end = static_cast<Index>(random() % all.size());
      if (begin > end) std::swap(begin, end);
      std::string found;
      for (const std::int32_t token : corpus->read(begin, end).tokens) found += static_cast<char>(token);
      ASSERT_EQ(found, all.substr(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)));
    }
  }
}

TEST_F(DocumentsTest, ReadALineOf100Megabytes) {
  const std::string text(100'000'000, 'x');
  const auto corpus =
      open("a.jsonl", "{\"text\": \"short\"}\n{\"text\": \"" + text + "\\u00e9\"}\n{\"text\": \"end\"}\n");
  ASSERT_EQ(corpus->size(), 5 + 100'000'002 + 3);
  EXPECT_EQ(corpus->record_begins(0, corpus->size()), (std::vector<Index>{0, 5, 100'000'007}));
  EXPECT_EQ(corpus->read(100'000'004, 100'000'010).tokens,
            (RecycledVector<std::int32_t>{'x', 0xc3, 0xa9, 'e', 'n', 'd'}));
}

TEST_F(DocumentsTest, LeaveEmptyTextsOutAndSaySo) {
  const auto corpus = open("a.jsonl", "\n{\"text\": \"a\"}\n{\"text\": \"\"}\n{\"text\": \"b\"}\n{\"text\": \"\"}");
  for (int time = 0; time < 2; ++time) {  // made, and found again
    const auto again = open_corpus({{folder / "a.jsonl"}, Tokenizer::byte, LowerCase::fold, folder / "cache"});
    EXPECT_EQ(texts_of(*again), (Texts{"a", "b"}));
    EXPECT_EQ(again->warnings(),
              Texts{(folder / "a.jsonl").string() + ": 2 documents are empty and left out, the first at line 3"});
  }
  expect_refused("{\"text\": \"\"}\n", {"holds no text", "every document is empty"});
}

TEST_F(DocumentsTest, AnotherFieldOrStateIsDecodedAnew) {
  EXPECT_EQ(texts("{\"text\": \"one\", \"body\": \"two\"}"), Texts{"one"});
  EXPECT_EQ(texts("{\"text\": \"one\", \"body\": \"two\"}", "body"), Texts{"two"});
  EXPECT_EQ(texts("{\"text\": \"other\", \"body\": \"two\"}"), Texts{"other"});
}

TEST_F(DocumentsTest, MayBeSequences) {
  const auto corpus =
      open("a.jsonl", "{\"seq\": \"ACgt\\nN R\"}\n{\"seq\": \"T\"}", "seq", Tokenizer::nucleotide, LowerCase::mask);
  const auto piece = corpus->read(0, corpus->size());
  EXPECT_EQ(piece.tokens, (RecycledVector<std::int32_t>{0, 1, 2, 3, 4, 4, 3}));
  EXPECT_EQ(piece.counts, (RecycledVector<std::uint8_t>{1, 1, 0, 0, 1, 1, 1}));
  EXPECT_EQ(corpus->record_begins(0, 7), (std::vector<Index>{0, 6}));
  expect_refused("{\"text\": \"ACGT\"}\n{\"text\": \"AC\\nE\"}",
                 {"line 2: ", "character 4 of \"text\"", "'E' is no nucleotide"}, Tokenizer::nucleotide);
  expect_refused("{\"text\": \"AC\\u0000\"}", {"line 1: ", "character 3", "0x00"}, Tokenizer::nucleotide);
}

TEST_F(DocumentsTest, RefuseABadLineByName) {
  const std::string good = "{\"text\": \"one\"}\n";
  expect_refused("", {"is empty"});
  expect_refused("\n\n", {"holds no text"});
  expect_refused(good + "{\"text\": \"two}\n", {"line 2: column 15: ", "missing closing quote"});
  expect_refused(good + good + "{\"text\": \"two\"} x\n", {"line 3: column 17: ", "syntax error"});
  expect_refused(good + "{\"text\": nul}", {"line 2: column 13: "});
  expect_refused(good + "[\"text\"]", {"line 2: is an array, not an object"});
  expect_refused(good + "\"text\"", {"line 2: is a string, not an object"});
  expect_refused(good + "7", {"line 2: is a number, not an object"});
  expect_refused(good + "{\"body\": \"two\"}", {"line 2: has no \"text\""});
  expect_refused(good + "{\"text\": 5}", {"line 2: \"text\" is a number, not a string"});
  expect_refused(good + "{\"text\": null}", {"line 2: \"text\" is null, not a string"});
  expect_refused(good + "{\"text\": {\"text\": \"x\"}}", {"line 2: \"text\" is an object, not a string"});
  expect_refused(good + "{\"text\": [\"x\"]}", {"line 2: \"text\" is an array, not a string"});
  expect_refused(good + "{\"text\": \"a\", \"text\": \"b\"}", {"line 2: \"text\" is given twice"});
  expect_refused(good + "{\"text\": \"\\ud800\"}", {"line 2: column ", "surrogate"});
  expect_refused(good + "{\"text\": \"\\udc00x\"}", {"line 2: column ", "surrogate"});
  expect_refused(good + "{\"text\": \"\xff\"}", {"line 2: column ", "UTF-8"});
  expect_refused(good + "{\"text\": \"\xed\xa0\x80\"}", {"line 2: column ", "UTF-8"});
  expect_refused(good + std::string("{\"text\": \"a\0b\"}", 15), {"line 2: column ", "control character"});
  expect_refused(good + '"' + std::string(1'000'000, 'x') + "\x01\"", {"line 2: column "});
  expect_refused(std::string(1'000'000, '['), {"line 1: is an array"});
  expect_refused("{\"a\": " + std::string(1'000'000, '['), {"line 1: column "});
}

TEST_F(DocumentsTest, RefuseDamagedGzip) {
  const std::string packed = gzipped("{\"text\": \"one\"}\n{\"text\": \"two\"}\n");
  expect_error(ErrorCode::data, {"a.jsonl.gz", "truncated gzip"},
               [&] { open("a.jsonl.gz", packed.substr(0, packed.size() - 9)); });
  expect_error(ErrorCode::data, {"a.jsonl.gz", "is not gzip"}, [&] { open("a.jsonl.gz", "{\"text\": \"one\"}"); });
}

}  // namespace
}  // namespace plasmid
