#include "runtime/io/file.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>

#include "tests/support/expect_error.hpp"
#include "tests/support/temporary_folder.hpp"

namespace plasmid {
namespace {

std::size_t files_in(const std::filesystem::path& folder) {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(folder), {}));
}

TEST(AtomicFile, ReplacesWhatStoodThere) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "a", "first");
  write_file_atomically(folder / "a", "second");
  EXPECT_EQ(read_bytes(folder / "a"), "second");
  EXPECT_EQ(files_in(folder.path()), 1u);
}

TEST(AtomicFile, TheFirstOfSeveralStays) {
  const TemporaryFolder folder;
  EXPECT_TRUE(create_file_atomically(folder / "a", "first"));
  EXPECT_FALSE(create_file_atomically(folder / "a", "second"));
  EXPECT_EQ(read_bytes(folder / "a"), "first");
  EXPECT_EQ(files_in(folder.path()), 1u);
}

TEST(AtomicFile, LeavesNothingWithoutCommit) {
  const TemporaryFolder folder;
  write_bytes(folder / "a", "old");
  {
    AtomicFile file(folder / "a");
    file.write("new");
  }
  EXPECT_EQ(read_bytes(folder / "a"), "old");
  EXPECT_EQ(files_in(folder.path()), 1u);
}

TEST(AtomicFile, RefusesWhatCannotBeCreated) {
  const TemporaryFolder folder;
  expect_error(ErrorCode::cannot_create, {(folder / "none/a").string()},
               [&] { write_file_atomically(folder / "none/a", "x"); });
  expect_error(ErrorCode::cannot_create, {"is a folder"}, [&] { write_file_atomically(folder.path(), "x"); });
  expect_error(ErrorCode::cannot_create, {"names no file"}, [&] { write_file_atomically(folder / "", "x"); });
}

TEST(AtomicFile, KeepsTheOldFileWhenTheDiskRefuses) {
  const TemporaryFolder folder;
  write_bytes(folder / "a", "old");
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto signal = std::signal(SIGXFSZ, SIG_IGN);  // the write then fails with EFBIG
  const rlimit small{1000, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  expect_error(ErrorCode::io, {(folder / "a").string(), "writing failed"},
               [&] { write_file_atomically(folder / "a", std::string(5000, 'x')); });
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, signal);
  EXPECT_EQ(read_bytes(folder / "a"), "old");
  EXPECT_EQ(files_in(folder.path()), 1u);
}

TEST(InputFile, ReadsByRangeAndStopsAtTheEnd) {
  const TemporaryFolder folder;
  write_bytes(folder / "a", "0123456789");
  const InputFile file(folder / "a");
  EXPECT_EQ(file.size(), 10);
  std::string text(4, '-');
  EXPECT_EQ(file.read_at(3, std::as_writable_bytes(std::span(text))), 4u);
  EXPECT_EQ(text, "3456");
  EXPECT_EQ(file.read_at(8, std::as_writable_bytes(std::span(text))), 2u);
  EXPECT_EQ(file.read_at(99, std::as_writable_bytes(std::span(text))), 0u);
}

TEST(InputFile, RefusesWhatIsNoFile) {
  const TemporaryFolder folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  expect_error(ErrorCode::no_input, {(folder / "pipe").string(), "regular"}, [&] { InputFile file(folder / "pipe"); });
  expect_error(ErrorCode::no_input, {(folder / "none").string()}, [&] { InputFile file(folder / "none"); });
}

TEST(MappedFile, HoldsTheBytes) {
  const TemporaryFolder folder;
  write_bytes(folder / "a", "abc");
  MappedFile moved(folder / "a");
  const MappedFile file = std::move(moved);
  EXPECT_EQ(file.bytes().size(), 3u);
  EXPECT_EQ(file.bytes()[2], std::byte{'c'});
  write_bytes(folder / "empty", "");
  EXPECT_TRUE(MappedFile(folder / "empty").bytes().empty());
}

}  // namespace
}  // namespace plasmid
