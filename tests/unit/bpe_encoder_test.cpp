// Ids by Hugging Face `tokenizers` (tests/reference/bpe/make_bpe.py), text for text.
#ifdef PLASMID_BPE
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

#include "runtime/data/bpe/encoder.hpp"
#include "tests/support/expect_error.hpp"
#include "tests/support/temporary_folder.hpp"

namespace plasmid::bpe {
namespace {

using nlohmann::json;

std::filesystem::path folder() { return std::filesystem::path(PLASMID_SOURCE_DIR) / "tests/reference/bpe"; }

std::vector<std::int32_t> ids_of(const std::vector<Token>& tokens) {
  std::vector<std::int32_t> ids;
  for (const Token& token : tokens) ids.push_back(token.id);
  return ids;
}

Index bytes_of(const std::vector<Token>& tokens) {
  return std::accumulate(tokens.begin(), tokens.end(), Index{0},
                         [](Index sum, const Token& token) { return sum + token.bytes; });
}

std::vector<Token> encoded(Encoder& encoder, const std::string& text) {
  std::vector<Token> tokens;
  encoder.encode(text, true, "text", tokens);
  return tokens;
}

std::vector<Token> encoded_in_parts(Encoder& encoder, const std::string& text, std::size_t longest, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<Token> tokens;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = std::min(text.size() - at, random() % (longest + 1));
    encoder.encode(std::string_view(text).substr(at, length), false, "text", tokens);
    at += length;
  }
  encoder.encode("", true, "text", tokens);
  return tokens;
}

class BpeEncoder : public testing::TestWithParam<std::string> {
 protected:
  static const json& cases() {
    static const json read = json::parse(read_bytes(folder() / "cases.json"));
    return read;
  }
  const json& texts() const { return cases().at("texts"); }
  const json& ids() const { return cases().at("ids").at(GetParam()); }
  Encoder encoder{folder() / (GetParam() + ".json")};
};

TEST_P(BpeEncoder, GivesTheIdsOfTheReference) {
  ASSERT_EQ(texts().size(), ids().size());
  for (int time = 0; time < 2; ++time)  // with words remembered, too
    for (std::size_t i = 0; i < texts().size(); ++i)
      EXPECT_EQ(ids_of(encoded(encoder, texts()[i])), ids()[i].get<std::vector<std::int32_t>>())
          << json(texts()[i]).dump();
}

TEST_P(BpeEncoder, GivesTheSameInParts) {
  for (std::size_t i = 0; i < texts().size(); ++i)
    for (const std::size_t longest : {std::size_t{1}, std::size_t{7}, std::size_t{400}})
      ASSERT_EQ(ids_of(encoded_in_parts(encoder, texts()[i], longest, static_cast<unsigned>(i))),
                ids()[i].get<std::vector<std::int32_t>>())
          << "parts of up to " << longest << " bytes of " << json(texts()[i]).dump();
}

TEST_P(BpeEncoder, CountsTheBytesOfTheText) {
  const std::string& name = GetParam();
  if (name.starts_with("removed") || name == "qwen") return;  // parts are left out, or composed
  const bool marks = name == "llama2" || name.starts_with("metaspace");
  for (const json& text : texts()) {
    const std::string bytes = text;
    if (marks && bytes.find("\xe2\x96\x81") != std::string::npos) continue;  // counts as a space
    EXPECT_EQ(bytes_of(encoded(encoder, bytes)), static_cast<Index>(bytes.size())) << json(text).dump();
  }
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, BpeEncoder,
                         testing::Values("gpt2", "gpt2_prefix", "gpt2_whole", "llama3", "qwen", "llama2", "metaspace",
                                         "metaspace_whole", "metaspace_never", "unknown_whole", "removed",
                                         "removed_invert", "merged_with_previous", "merged_with_previous_invert",
                                         "merged_with_next", "merged_with_next_invert", "contiguous",
                                         "contiguous_invert"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace plasmid::bpe
#endif
