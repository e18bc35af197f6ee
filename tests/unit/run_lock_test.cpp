#include "launcher/run/run_lock.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <optional>

#include "tests/support/expect_error.hpp"
#include "tests/support/temporary_folder.hpp"

namespace plasmid {
namespace {

TEST(RunLock, IsOneHoldersAtATimeAndNamesIt) {
  const TemporaryFolder folder;
  std::optional<RunLock> first(folder.path());
  EXPECT_EQ(first->warning(), "");
  const std::string holder = "process " + std::to_string(::getpid()) + " on host ";
  expect_error(ErrorCode::cannot_create, {"run_directory: " + folder.path().string(), "is in use by " + holder},
               [&] { RunLock second(folder.path()); });
  first.reset();
  EXPECT_EQ(read_bytes(folder / ".lock"), "");
  EXPECT_NO_THROW(RunLock(folder.path()));
}

TEST(RunLock, KnowsAHolderThatDoesNotNameItself) {
  const TemporaryFolder folder;
  const auto busy = [](int, int) {
    errno = EWOULDBLOCK;
    return -1;
  };
  expect_error(ErrorCode::cannot_create, {"is in use by another process"}, [&] { RunLock(folder.path(), busy); });
  write_bytes(folder / ".lock", "\x1b[2J\n");
  expect_error(ErrorCode::cannot_create, {"is in use by \""}, [&] { RunLock(folder.path(), busy); });
}

TEST(RunLock, WarnsWhereThereAreNoLocks) {
  const TemporaryFolder folder;
  const RunLock lock(folder.path(), [](int, int) {
    errno = ENOLCK;
    return -1;
  });
  EXPECT_NE(lock.warning().find(folder.path().string()), std::string::npos);
  EXPECT_NE(lock.warning().find("no locks"), std::string::npos);
  EXPECT_EQ(lock.warning().find('\n'), std::string::npos);
}

TEST(RunLock, RefusesAFolderThatItCannotWrite) {
  const TemporaryFolder folder;
  std::filesystem::create_symlink("/etc/hostname", folder / ".lock");
  expect_error(ErrorCode::cannot_create, {folder.path().string(), ".lock"}, [&] { RunLock lock(folder.path()); });
  expect_error(ErrorCode::cannot_create, {"absent", ".lock"}, [&] { RunLock lock(folder / "absent"); });
}

}  // namespace
}  // namespace plasmid
