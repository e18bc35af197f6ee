#include "runtime/telemetry/json_lines.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>

#include "tests/support/expect_error.hpp"
#include "tests/support/temporary_folder.hpp"

namespace plasmid {
namespace {

class JsonLinesTest : public testing::Test {
 protected:
  // What the file holds after it stood at `before` and one line was appended.
  std::string after(const std::string& before) {
    write_bytes(path, before);
    JsonLines(path).append(R"({"new":1})");
    return read_bytes(path);
  }

  TemporaryFolder folder;
  std::filesystem::path path = folder / "metrics.jsonl";
};

TEST_F(JsonLinesTest, ShowsEachLineAtOnceAndGoesOnLater) {
  JsonLines lines(path);
  lines.append(R"({"step":1})");
  EXPECT_EQ(read_bytes(path), "{\"step\":1}\n");
  lines.append(R"({"step":2})");
  JsonLines(path).append(R"({"step":3})");
  EXPECT_EQ(read_bytes(path), "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n");
}

TEST_F(JsonLinesTest, CutsATornLine) {
  const std::string whole = "{\"step\":1,\"loss\":0.5}\n", line = "{\"step\":2,\"loss\":0.25}";
  for (std::size_t kept = 0; kept < line.size(); ++kept)
    EXPECT_EQ(after(whole + line.substr(0, kept)), whole + "{\"new\":1}\n") << kept << " bytes of the last line";
  EXPECT_EQ(after(whole + line), whole + line + "\n{\"new\":1}\n") << "only its end was lost";
  EXPECT_EQ(after(whole + std::string(200'000, '\0')), whole + "{\"new\":1}\n") << "blocks that were never written";
  EXPECT_EQ(after(line.substr(0, 5)), "{\"new\":1}\n") << "no line before";
}

TEST_F(JsonLinesTest, KeepsTheLinesBeforeWhenTheDiskRefuses) {
  JsonLines lines(path);
  lines.append(R"({"step":1})");
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto signal = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{20, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  expect_error(ErrorCode::io, {path.string(), "writing failed"}, [&] { lines.append(R"({"step":2,"loss":0.5})"); });
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, signal);
  EXPECT_EQ(read_bytes(path), "{\"step\":1}\n");
}

TEST_F(JsonLinesTest, NamesAFileThatCannotBeMade) {
  expect_error(ErrorCode::cannot_create, {(folder / "none/a").string()}, [&] { JsonLines lines(folder / "none/a"); });
  expect_error(ErrorCode::cannot_create, {folder.path().string()}, [&] { JsonLines lines(folder.path()); });
}

}  // namespace
}  // namespace plasmid
