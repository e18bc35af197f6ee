// What processes that derive from the same file at once do to each other, and what one that was killed leaves.
#include "runtime/data/kept_file.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/wait.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <thread>

#include "runtime/data/corpus.hpp"
#include "tests/support/temporary_folder.hpp"

namespace plasmid {
namespace {

class KeptFiles : public testing::Test {
 protected:
  void SetUp() override { write_bytes(folder / "source", "some text"); }

  KeptFile get(const std::function<void(const std::string&)>& say = {}) {
    return keep(InputFile(folder / "source"), Cache(folder / "cache", say), "", ".kept", [&](KeptWriter& to) {
      ++made;
      to.write(std::as_bytes(std::span("derived", 7)));
      to.end_section();
    });
  }
  std::vector<std::filesystem::path> cached() const {
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(folder / "cache")) files.push_back(entry.path());
    return files;
  }
  // What another process that makes the same file holds.
  static Descriptor lock_of(const std::filesystem::path& kept) {
    Descriptor lock(::open((kept.string() + ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
    EXPECT_EQ(::flock(lock.get(), LOCK_EX | LOCK_NB), 0);
    return lock;
  }

  TemporaryFolder folder;
  int made = 0;
};

TEST_F(KeptFiles, LeaveNothingElse) {
  get(), get();
  EXPECT_EQ(made, 1);
  EXPECT_EQ(cached().size(), 1u);
}

TEST_F(KeptFiles, OfOneKeyWaitAndSaySoOnce) {
  const std::filesystem::path kept = get().file.path();
  std::filesystem::remove(kept);
  Descriptor lock = lock_of(kept);
  std::vector<std::string> said;
  get([&](const std::string& line) { said.push_back(line), lock.reset(); });
  EXPECT_EQ(said, std::vector<std::string>{"waiting for another process that reads " + (folder / "source").string()});
  EXPECT_EQ(made, 2);
  EXPECT_EQ(cached().size(), 1u);
}

TEST_F(KeptFiles, OfOtherKeysDoNotWait) {
  const std::filesystem::path kept = get().file.path();
  const Descriptor lock = lock_of(kept);
  write_bytes(folder / "other", "other text");
  keep(InputFile(folder / "other"), Cache(folder / "cache", [](const std::string& line) { ADD_FAILURE() << line; }), "",
       ".kept", [](KeptWriter& to) { to.end_section(); });
}

// The kernel's count of what this thread has read, which the watchdog goes by.
std::uint64_t bytes_read(const std::string& counters) {
  std::ifstream file(counters);
  std::uint64_t value = 0;
  for (std::string name; file >> name >> value;)
    if (name == "rchar:") return value;
  return 0;
}

TEST_F(KeptFiles, WaitingIsSeenAsProgress) {
  const std::string counters = "/proc/self/task/" + std::to_string(::gettid()) + "/io";
  if (bytes_read(counters) == 0) GTEST_SKIP() << "this kernel counts no bytes read";
  const std::filesystem::path kept = get().file.path();
  std::filesystem::remove(kept);
  Descriptor lock = lock_of(kept);
  std::atomic<bool> waits = false, seen = false;
  std::thread other([&] {
    const auto patience = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    while (!waits && std::chrono::steady_clock::now() < patience) std::this_thread::yield();
    const std::uint64_t before = bytes_read(counters);
    while (!seen && std::chrono::steady_clock::now() < patience) {
      seen = bytes_read(counters) > before;
      std::this_thread::yield();
    }
    lock.reset();
  });
  get([&](const std::string&) { waits = true; });
  other.join();
  EXPECT_TRUE(seen);
}

TEST_F(KeptFiles, RemoveWhatAKilledProcessLeft) {
  const std::filesystem::path kept = get().file.path();
  std::filesystem::remove(kept);
  const pid_t child = ::fork();
  if (child == 0) {
    AtomicFile half(kept), of_another(folder / "cache/another");
    half.write("half");
    ::_exit(0);
  }
  ::waitpid(child, nullptr, 0);
  ASSERT_EQ(cached().size(), 2u);
  get();
  ASSERT_EQ(cached().size(), 2u);  // the other key's may still be written
  std::filesystem::remove(kept);
  EXPECT_EQ(cached().at(0).filename().string().find(AtomicFile::temporary_prefix("another")), 0u);
}

#ifdef PLASMID_BPE
// A file that is replaced after its documents were decoded and before they are tokenized.
TEST_F(KeptFiles, TokensAreOfTheTextThatWasRead) {
  CorpusOptions options{.files = {folder / "a.jsonl"}, .tokenizer = Tokenizer::bpe, .cache = folder / "cache"};
  options.tokenizer_file = std::filesystem::path(PLASMID_SOURCE_DIR) / "tests/reference/bpe/gpt2.json";
  write_bytes(folder / "a.jsonl", "{\"text\": \"old\"}\n");
  open_corpus(options);
  Descriptor lock;
  for (const auto& file : cached()) {
    std::filesystem::remove(file);
    if (file.extension() == ".documents") lock = lock_of(file);
  }
  options.say = [&](const std::string&) {
    write_bytes(folder / "new", "{\"text\": \"another\"}\n");
    std::filesystem::rename(folder / "new", folder / "a.jsonl");
    lock.reset();
  };
  const auto old = open_corpus(options);
  EXPECT_EQ(old->bytes(0, old->size()), 3);
  ASSERT_FALSE(lock);
  const auto replaced = open_corpus(options);
  EXPECT_EQ(replaced->bytes(0, replaced->size()), 7);
}
#endif

}  // namespace
}  // namespace plasmid
