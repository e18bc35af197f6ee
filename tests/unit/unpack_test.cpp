// The cache of unpacked gzip files, seen through open_bytes.
#include "runtime/data/unpack.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <chrono>
#include <cstdlib>
#include <thread>

#include "tests/support/expect_error.hpp"
#include "tests/support/packed.hpp"
#include "tests/support/temporary_folder.hpp"

namespace plasmid {
namespace {

namespace fs = std::filesystem;

class Unpack : public testing::Test {
 protected:
  std::string content(const fs::path& packed) {
    const auto bytes = open_bytes(packed, cache);
    std::string text(static_cast<std::size_t>(bytes->size()), '?');
    bytes->read(0, text);
    return text;
  }
  fs::path kept() const {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(cache)) files.push_back(entry.path());
    EXPECT_EQ(files.size(), 1u) << "one file, and nothing temporary";
    return files.empty() ? fs::path() : files.front();
  }
  static ino_t inode(const fs::path& path) {
    struct stat status {};
    EXPECT_EQ(::stat(path.c_str(), &status), 0);
    return status.st_ino;
  }

  TemporaryFolder folder;
  fs::path packed = folder / "a.gz", cache = folder / "deep/cache";
};

TEST_F(Unpack, HappensOnce) {
  write_bytes(packed, gzipped("some text"));
  EXPECT_EQ(content(packed), "some text");
  const ino_t first = inode(kept());
  EXPECT_EQ(content(packed), "some text");
  EXPECT_EQ(inode(kept()), first);
}

TEST_F(Unpack, JoinsMembersAndPassesOverWhatFollows) {
  write_bytes(packed, gzipped("one ") + gzipped("two"));
  EXPECT_EQ(content(packed), "one two");
}

TEST_F(Unpack, NeverUsesTheTextOfAnotherState) {
  write_bytes(packed, gzipped("text one"));
  EXPECT_EQ(content(packed), "text one");
  write_bytes(packed, gzipped("text two"));  // as long as before
  fs::last_write_time(packed, fs::last_write_time(packed) + std::chrono::seconds(5));
  EXPECT_EQ(content(packed), "text two");
  kept();
}

TEST_F(Unpack, NeverUsesADamagedFile) {
  write_bytes(packed, gzipped("a text of some length"));
  EXPECT_EQ(content(packed), "a text of some length");
  const std::string whole = read_bytes(kept());
  for (std::size_t size = 0; size < whole.size(); ++size) {
    write_bytes(kept(), whole.substr(0, size));
    ASSERT_EQ(content(packed), "a text of some length") << "cut to " << size;
  }
  write_bytes(kept(), whole + "x");
  EXPECT_EQ(content(packed), "a text of some length");
}

TEST_F(Unpack, LeavesNothingOfADamagedSource) {
  write_bytes(packed, gzipped("a text of some length").substr(0, 25));
  expect_error(ErrorCode::data, {packed.string(), "truncated gzip"}, [&] { content(packed); });
  EXPECT_TRUE(fs::is_empty(cache));
}

TEST_F(Unpack, SurvivesARace) {
  std::string text(300'000, ' ');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * i >> 3);
  write_bytes(packed, gzipped(text));
  std::vector<std::string> seen(6);
  std::vector<std::thread> ranks;
  for (std::string& slot : seen) ranks.emplace_back([&] { slot = content(packed); });
  for (std::thread& rank : ranks) rank.join();
  for (const std::string& slot : seen) EXPECT_TRUE(slot == text);
  kept();
}

TEST_F(Unpack, NamesACacheThatCannotBeMade) {
  write_bytes(packed, gzipped("text"));
  write_bytes(folder / "deep", "a file where the folder should be");
  expect_error(ErrorCode::cannot_create, {cache.string()}, [&] { content(packed); });
}

TEST_F(Unpack, LeavesTheFoldersOfTheUserAlone) {
  fs::create_directory(folder / "data");
  packed = folder / "data/a.gz";
  write_bytes(packed, gzipped("text"));
  ::setenv("XDG_CACHE_HOME", (folder / "home").c_str(), 1);
  cache.clear();
  EXPECT_EQ(content(packed), "text");
  ::unsetenv("XDG_CACHE_HOME");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder / "data"), {}), 1);
  EXPECT_FALSE(fs::is_empty(folder / "home/plasmid"));
}

}  // namespace
}  // namespace plasmid
