// What of a tokenizer.json is refused, and how it is named; what a long word costs.
#ifdef PLASMID_BPE
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "runtime/data/bpe/definition.hpp"
#include "runtime/data/bpe/encoder.hpp"
#include "tests/support/expect_error.hpp"
#include "tests/support/temporary_folder.hpp"

namespace plasmid::bpe {
namespace {

using nlohmann::json;

class BpeDefinition : public testing::Test {
 protected:
  static json good(const std::string& name = "gpt2") {
    return json::parse(
        read_bytes(std::filesystem::path(PLASMID_SOURCE_DIR) / "tests/reference/bpe" / (name + ".json")));
  }
  Encoder open(const std::string& bytes) {
    write_bytes(path, bytes);
    return Encoder(path);
  }
  void expect_refused(const json& content, std::vector<std::string> words, ErrorCode code = ErrorCode::config) {
    words.push_back(path.string() + ": ");
    if (code == ErrorCode::config) words.push_back("not supported");
    expect_error(code, words, [&] { open(content.dump()); });
  }
  static json split(const std::string& pattern) {
    return {{"type", "Sequence"},
            {"pretokenizers",
             {{{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}},
              {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}}}}};
  }

  TemporaryFolder folder;
  std::filesystem::path path = folder / "tokenizer.json";
};

TEST_F(BpeDefinition, RefusesWhatIsNestedTooDeep) {
  std::string inner = "{\"type\": \"NFC\"}", around;
  constexpr int kLevels = 200'000;
  for (int i = 0; i < kLevels; ++i) around += "{\"type\": \"Sequence\", \"normalizers\": [";
  for (int i = 0; i < kLevels; ++i) inner += "]}";
  expect_error(ErrorCode::data, {path.string() + ": nested more than 32 deep"},
               [&] { open("{\"model\": {}, \"normalizer\": " + around + inner + "}"); });
}

TEST_F(BpeDefinition, RefusesWhatItWouldReadDifferently) {
  const auto changed = [](const char* place, const json& value, const std::string& name = "gpt2") {
    json content = good(name);
    content[json::json_pointer(place)] = value;
    return content;
  };
  expect_refused(changed("/model/type", "WordPiece"), {"model WordPiece"});
  expect_refused(changed("/model/dropout", 0.1), {"model.dropout 0.1"});
  expect_refused(changed("/model/end_of_word_suffix", "</w>"), {"model.end_of_word_suffix \"</w>\""});
  expect_refused(changed("/model/continuing_subword_prefix", "##"), {"model.continuing_subword_prefix \"##\""});
  expect_refused(changed("/normalizer", {{"type", "Lowercase"}}), {"normalizer: Lowercase"});
  expect_refused(changed("/normalizer", {{"type", "Replace"}, {"pattern", {{"Regex", " "}}}, {"content", "_"}}),
                 {"normalizer: Replace of other than one character"});
  expect_refused(changed("/pre_tokenizer", {{"type", "BertPreTokenizer"}}), {"pre_tokenizer: BertPreTokenizer"});
  expect_refused(
      changed("/pre_tokenizer",
              {{"type", "Sequence"},
               {"pretokenizers", {good()["pre_tokenizer"], {{"type", "Digits"}, {"individual_digits", true}}}}}),
      {"pre_tokenizer: Digits behind ByteLevel"});
  expect_refused(changed("/added_tokens/0/lstrip", true), {"added_tokens: \"<|endoftext|>\" with lstrip"});
  expect_refused(changed("/added_tokens/0/single_word", true), {"with single_word"});
  json lacking = good();
  lacking["model"]["vocab"].erase("!");
  expect_refused(lacking, {"without a token for byte <0x21>"});
  json no_unknown = good("metaspace");
  no_unknown["model"]["unk_token"] = nullptr;
  expect_refused(no_unknown, {"without unk_token or byte_fallback"});
}

TEST_F(BpeDefinition, RefusesPatternsThatPcre2ReadsDifferently) {
  const auto with = [](const std::string& pattern) {
    json content = good();
    content["pre_tokenizer"] = split(pattern);
    return content;
  };
  for (const std::string pattern : {R"(\w+)", R"(\bx)", "^a", "a$", "(?<=a)b", "[a&&[b]]", "[[:alpha:]]", R"(\h+)",
                                    R"(\X)", R"([\w])", "a{1,2}+", "a{,2}", "[]a]", "(*UTF)a", R"([^\S])"})
    expect_refused(with(pattern), {"pre_tokenizer: pattern"});
  expect_refused(with("a*"), {"pre_tokenizer: pattern \"a*\" matches nothing"});
  expect_error(ErrorCode::config, {"pre_tokenizer: pattern \"(a\"", "parenthes"}, [&] { open(with("(a").dump()); });
  for (const std::string pattern : {R"([\u4e00-\u9fff]+|\d+)", R"(\p{Lu}(?=a)|[^\s\]]++)", R"((?i:'s)|a{1,3}|.)"})
    open(with(pattern).dump());
}

TEST_F(BpeDefinition, RefusesWhatIsNoTokenizer) {
  expect_error(ErrorCode::no_input, {path.string()}, [&] { Encoder missing(path); });
  for (const std::string bytes :
       {"", "{", "[]", "{}", "null", "{\"model\": 5}", "{\"model\": {\"vocab\": 1, \"merges\": 2}}"})
    expect_error(ErrorCode::data, {path.string(), "tokenizer.json"}, [&] { open(bytes); });
  json content = good();
  content["model"]["vocab"]["a"] = -1;
  expect_refused(content, {"model.vocab: \"-1\" is no token id"}, ErrorCode::data);
  content = good();
  content["model"]["merges"].push_back({"a", "never"});
  expect_refused(content, {"model.merges: \"never\" is not in the vocabulary"}, ErrorCode::data);
  content["model"]["merges"].back() = "a b c";
  expect_refused(content, {"model.merges: \"a b c\" is not two tokens"}, ErrorCode::data);
}

TEST_F(BpeDefinition, ReadsOlderForms) {
  json content = good();
  for (auto& merge : content["model"]["merges"])
    merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  content["model"].erase("type");
  content["model"].erase("ignore_merges");
  content["pre_tokenizer"].erase("use_regex");
  Encoder older = open(content.dump()), newer = open(good().dump());
  std::vector<Token> one, two;
  older.encode("The world's 12 words.", true, "t", one);
  newer.encode("The world's 12 words.", true, "t", two);
  ASSERT_EQ(one.size(), two.size());
  for (std::size_t i = 0; i < one.size(); ++i) EXPECT_EQ(one[i].id, two[i].id);
}

TEST_F(BpeDefinition, RefusesTextThatIsNotUtf8) {
  Encoder encoder = open(good().dump());
  std::vector<Token> tokens;
  for (const std::string bytes : {"\xff", "\xc3", "\xed\xa0\x80", "\xc0\xaf", "\xf4\x90\x80\x80"}) {
    Encoder fresh = open(good().dump());
    expect_error(ErrorCode::data, {"some text: byte 3 starts no character of UTF-8"},
                 [&] { fresh.encode("abc" + bytes, true, "some text", tokens); });
  }
}

// Quadratic merging would take hours here, and a word that is split anew with each part as well.
TEST_F(BpeDefinition, LongWordsAreAffordable) {
  std::string word(4'000'000, 'x');
  for (std::size_t i = 0; i < word.size(); ++i) word[i] = static_cast<char>('a' + i * i % 7 + i % 3);
  for (const std::string name : {"gpt2", "llama2", "gpt2_whole"}) {
    Encoder encoder = open(good(name).dump());
    std::vector<Token> tokens;
    for (std::size_t at = 0; at < word.size(); at += 4096)
      encoder.encode(std::string_view(word).substr(at, 4096), false, "t", tokens);
    encoder.encode("", true, "t", tokens);
    Index bytes = 0;
    for (const Token& token : tokens) bytes += token.bytes;
    EXPECT_EQ(bytes, static_cast<Index>(word.size())) << name;
    EXPECT_LT(tokens.size(), word.size()) << name;
  }
}

}  // namespace
}  // namespace plasmid::bpe
#endif
