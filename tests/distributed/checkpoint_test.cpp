#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include "parallel/checkpoint/manifest.hpp"
#include "parallel/checkpoint/reader.hpp"
#include "parallel/checkpoint/writer.hpp"
#include "runtime/io/digest.hpp"
#include "tests/support/expect_error.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/training_state.hpp"
#include "tests/support/unprivileged.hpp"

namespace plasmid {
namespace {

namespace fs = std::filesystem;
using test::SharedFolder;
using test::SmallState;

CheckpointRequest request(Index step, Index keep = 2) {
  CheckpointRequest request;
  request.about.set_step(step);
  request.about.set_tokens(step * 100);
  (*request.about.mutable_must_match())["train.seed"] = "5";
  request.texts["config.json"] = "{\"step\": " + std::to_string(step) + "}\n";
  request.keep = keep;
  return request;
}

void save(Communicator& ranks, const fs::path& folder, const CheckpointRequest& request) {
  SmallState state;
  state.fill(request.about.step());
  ASSERT_EQ(save_checkpoint(ranks, folder, request, state.state()), "");
}

std::vector<fs::path> content_of(const fs::path& folder) {
  std::vector<fs::path> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::ranges::sort(names);
  return names;
}

void expect_state_of_step(const CheckpointSearch& search, Index step) {
  ASSERT_EQ(search.manifest.step(), step);
  SmallState loaded, saved;
  saved.fill(step);
  load_checkpoint(search.folder, search.manifest, loaded.state());
  EXPECT_EQ(loaded.weights(), saved.weights());
  EXPECT_EQ(loaded.first(), saved.first());
  EXPECT_EQ(loaded.second(), saved.second());
}

// Rank 0 works on the files between two barriers.
void alone(Communicator& ranks, const std::function<void()>& work) {
  ranks.barrier();
  if (ranks.rank() == 0) work();
  ranks.barrier();
}

class CheckpointTest : public testing::TestWithParam<test::RankSet> {};

TEST_P(CheckpointTest, SavedOnSomeRanksLoadsOnOthersAndByRange) {
  test::on_ranks(GetParam(), [&](Communicator& world) {
    for (int writers = 1; writers <= world.size(); ++writers) {
      const SharedFolder folder(world);
      const std::unique_ptr<Communicator> group = world.split(world.rank() < writers, world.rank());
      if (world.rank() < writers) save(*group, folder.path(), request(3));
      world.barrier();
      const CheckpointSearch search = find_checkpoint(world, folder.path());
      EXPECT_TRUE(search.damage.empty());
      EXPECT_EQ(search.manifest.tokens(), 300);
      expect_state_of_step(search, 3);

      SmallState saved;
      saved.fill(3);
      const Range mine = even_share(saved.size(), world.size(), world.rank());
      if (mine.size() == 0) continue;
      SmallState part(mine);
      load_checkpoint(search.folder, search.manifest, part.state());
      for (Index i = mine.begin; i < mine.end; ++i) {
        const auto from = static_cast<std::size_t>(i), to = static_cast<std::size_t>(i - mine.begin);
        EXPECT_EQ(part.first()[to], saved.first()[from]);
        EXPECT_EQ(part.second()[to], saved.second()[from]);
      }
    }
  });
}

TEST_P(CheckpointTest, HoldsAnEvenShareOfTheMomentsPerRankAndTheWeightsOnce) {
  test::on_ranks(GetParam(), [&](Communicator& world) {
    const SharedFolder folder(world);
    save(world, folder.path(), request(3));
    const v1::CheckpointManifest manifest = read_manifest(checkpoint_path(folder.path(), 3));
    SmallState state;
    Index weights = 0, moments = 0;
    for (const v1::CheckpointFile& file : manifest.files())
      for (const v1::TensorPiece& piece : file.pieces())
        (file.role() == v1::CheckpointFile::WEIGHTS ? weights : moments) += piece.end() - piece.begin();
    EXPECT_EQ(weights, 11 * 7 + 3 + 40 * 16 + 1 + 30);
    EXPECT_EQ(moments, weights);
    Index covered = 0;
    for (int rank = 0; rank < world.size(); ++rank) {
      const Range share = even_share(state.size(), world.size(), rank);
      EXPECT_EQ(share.begin, covered);
      EXPECT_LE(share.size(), round_up(ceil_div(state.size(), world.size()), 16));
      covered = share.end;
    }
    EXPECT_EQ(covered, state.size());
  });
}

struct Damage {
  const char* what;
  const char* named;  // in the reported line
  std::function<void(const fs::path& checkpoint)> inflict;
};

void flip(const fs::path& path, std::size_t at) {
  std::string bytes = read_bytes(path);
  bytes.at(at % bytes.size()) ^= 4;
  write_bytes(path, bytes);
}

const std::vector<Damage>& damages() {
  static const char* const kShard = "optimizer-00000-of-";
  const auto shard = [](const fs::path& folder) {
    for (const fs::path& name : content_of(folder))
      if (name.string().starts_with(kShard)) return folder / name;
    return folder;
  };
  static const std::vector<Damage> all = {
      {"a flipped byte of the weights", "model.safetensors",
       [](const fs::path& folder) { flip(folder / "model.safetensors", 2500); }},
      {"a flipped byte of a header", "model.safetensors",
       [](const fs::path& folder) { flip(folder / "model.safetensors", 1); }},
      {"a flipped byte of a moment", kShard, [shard](const fs::path& folder) { flip(shard(folder), 777); }},
      {"a flipped byte of the configuration", "config.json",
       [](const fs::path& folder) { flip(folder / "config.json", 3); }},
      {"a truncated file", kShard,
       [shard](const fs::path& folder) { fs::resize_file(shard(folder), fs::file_size(shard(folder)) - 1); }},
      {"an empty file", "model.safetensors",
       [](const fs::path& folder) { fs::resize_file(folder / "model.safetensors", 0); }},
      {"a longer file", "model.safetensors",
       [](const fs::path& folder) {
         fs::resize_file(folder / "model.safetensors", fs::file_size(folder / "model.safetensors") + 1);
       }},
      {"a missing file", kShard, [shard](const fs::path& folder) { fs::remove(shard(folder)); }},
      {"a folder for a file", "config.json",
       [](const fs::path& folder) {
         fs::remove(folder / "config.json");
         fs::create_directory(folder / "config.json");
       }},
      {"junk for a manifest", "manifest.json",
       [](const fs::path& folder) { write_bytes(folder / "manifest.json", "junk"); }},
      {"a missing manifest", "manifest.json", [](const fs::path& folder) { fs::remove(folder / "manifest.json"); }},
      {"a missing checksum", "manifest.xxh128", [](const fs::path& folder) { fs::remove(folder / "manifest.xxh128"); }},
      {"an empty folder", "manifest.json",
       [](const fs::path& folder) {
         fs::remove_all(folder);
         fs::create_directory(folder);
       }},
      {"a file for a folder", "step-2", [](const fs::path& folder) {
         fs::remove_all(folder);
         write_bytes(folder, "");
       }}};
  return all;
}

TEST_P(CheckpointTest, ADamagedOneIsNamedAndTheOneBeforeIsUsed) {
  test::on_ranks(GetParam(), [&](Communicator& world) {
    for (const Damage& damage : damages()) {
      SCOPED_TRACE(damage.what);
      const SharedFolder folder(world);
      for (const Index step : {1, 2}) save(world, folder.path(), request(step));
      alone(world, [&] { damage.inflict(checkpoint_path(folder.path(), 2)); });
      const CheckpointSearch search = find_checkpoint(world, folder.path());
      ASSERT_EQ(search.damage.size(), 1u);
      EXPECT_EQ(search.damaged, std::vector<Index>{2});
      EXPECT_NE(search.damage[0].find("step-2"), std::string::npos) << search.damage[0];
      EXPECT_NE(search.damage[0].find(damage.named), std::string::npos) << search.damage[0];
      EXPECT_EQ(search.damage[0].find('\n'), std::string::npos) << search.damage[0];
      expect_state_of_step(search, 1);

      // The same step again takes the damaged one's place; the damaged one stays under another name.
      CheckpointRequest again = request(2);
      again.damaged = search.damaged;
      save(world, folder.path(), again);
      world.barrier();
      expect_state_of_step(find_checkpoint(world, folder.path()), 2);
      EXPECT_EQ(content_of(folder.path()), (std::vector<fs::path>{"step-1", "step-2", "step-2.aside"}));
      EXPECT_EQ(checkpoints_aside(folder.path()), std::vector<fs::path>{folder.path() / "step-2.aside"});
    }
  });
}

TEST_P(CheckpointTest, AllDamagedIsNotTheSameAsNone) {
  test::on_ranks(GetParam(), [&](Communicator& world) {
    const SharedFolder folder(world);
    const CheckpointSearch none = find_checkpoint(world, folder.path() / "absent");
    EXPECT_TRUE(none.folder.empty() && none.damaged.empty());
    for (const Index step : {1, 2}) save(world, folder.path(), request(step));
    alone(world, [&] {
      for (const Index step : {1, 2}) flip(checkpoint_path(folder.path(), step) / "model.safetensors", 999);
    });
    const CheckpointSearch search = find_checkpoint(world, folder.path());
    EXPECT_TRUE(search.folder.empty());
    EXPECT_EQ(search.damaged, (std::vector<Index>{2, 1}));
    EXPECT_EQ(search.damage.size(), 2u);
  });
}

TEST_P(CheckpointTest, WhatACrashLeftIsPassedOverAndRemovedByTheNextSave) {
  test::on_ranks(GetParam(), [&](Communicator& world) {
    const SharedFolder folder(world);
    save(world, folder.path(), request(1));
    alone(world, [&] {
      fs::copy(checkpoint_path(folder.path(), 1), partial_path(folder.path(), 2));
      fs::create_directory(folder.path() / ".step-1.replaced.partial");
    });
    const CheckpointSearch search = find_checkpoint(world, folder.path());
    EXPECT_TRUE(search.damage.empty());
    expect_state_of_step(search, 1);
    save(world, folder.path(), request(3));
    world.barrier();
    EXPECT_EQ(content_of(folder.path()), (std::vector<fs::path>{"step-1", "step-3"}));
  });
}

TEST_P(CheckpointTest, KeepsTheLastOfThisLineAndPutsDamagedOnesAside) {
  test::on_ranks(GetParam(), [&](Communicator& world) {
    const SharedFolder folder(world);
    const auto names = [&] {
      world.barrier();
      const std::vector<fs::path> content = content_of(folder.path());
      world.barrier();
      return content;
    };
    for (const Index step : {1, 2, 3, 10}) save(world, folder.path(), request(step, 3));
    EXPECT_EQ(names(), (std::vector<fs::path>{"step-10", "step-2", "step-3"}));
    // Going on from 3, as after damage to 10: the new one is not pushed out by the higher number.
    CheckpointRequest next = request(4, 1);
    save(world, folder.path(), next);
    EXPECT_EQ(names(), (std::vector<fs::path>{"step-10", "step-4"}));
    // A damaged one is none of those kept.
    next = request(11, 2);
    next.damaged = {10};
    save(world, folder.path(), next);
    EXPECT_EQ(names(), (std::vector<fs::path>{"step-10.aside", "step-11", "step-4"}));
  });
}

struct Unknown {
  const char* what;
  ErrorCode code;
  const char* named;
  std::function<void(const fs::path& checkpoint)> inflict;
};

void write_sealed_manifest(const fs::path& checkpoint, const std::string& text) {
  write_bytes(checkpoint / "manifest.json", text);
  write_bytes(checkpoint / "manifest.xxh128", digest_of(text).xxh3_128 + "  manifest.json\n");
}

// Nothing says that these are damaged, so they stay and nothing older takes their place.
TEST_P(CheckpointTest, WhatCannotBeReadOrIsNewerIsRefusedAndStays) {
  const std::vector<Unknown> all = {
      {"a newer format with fields of its own", ErrorCode::config, "format 2",
       [](const fs::path& folder) {
         write_sealed_manifest(folder, R"({"format_version": "2", "step": "2", "planes": [{"tail": 1}]})");
       }},
      {"weights that are not opened", ErrorCode::io, "model.safetensors",
       [](const fs::path& folder) { fs::permissions(folder / "model.safetensors", fs::perms::none); }},
      {"a folder that is not opened", ErrorCode::io, "step-2",
       [](const fs::path& folder) { fs::permissions(folder, fs::perms::none); }}};
  test::on_ranks(GetParam(), [&](Communicator& world) {
    const test::Unprivileged user;
    for (const Unknown& unknown : all) {
      SCOPED_TRACE(unknown.what);
      if (unknown.code == ErrorCode::io && !user.holds()) continue;
      const SharedFolder folder(world);
      for (const Index step : {1, 2}) save(world, folder.path(), request(step));
      alone(world, [&] { unknown.inflict(checkpoint_path(folder.path(), 2)); });
      expect_error(unknown.code, {"step-2", unknown.named}, [&] { find_checkpoint(world, folder.path()); });
      // A save that knows nothing of it removes neither.
      for (const Index step : {3, 4, 5}) save(world, folder.path(), request(step, 1));
      world.barrier();
      EXPECT_EQ(content_of(folder.path()), (std::vector<fs::path>{"step-2", "step-5"}));
      alone(world, [&] { fs::permissions(checkpoint_path(folder.path(), 2), fs::perms::owner_all); });
    }
  });
}

TEST_P(CheckpointTest, ASaveRemovesNothingButItsOwnOlderOnes) {
  test::on_ranks(GetParam(), [&](Communicator& world) {
    const SharedFolder folder(world);
    for (const Index step : {1, 2, 3, 4}) save(world, folder.path(), request(step, 9));
    alone(world, [&] {
      flip(checkpoint_path(folder.path(), 1) / "manifest.json", 9);
      fs::resize_file(checkpoint_path(folder.path(), 2) / "model.safetensors", 100);
      v1::CheckpointManifest other = read_manifest(checkpoint_path(folder.path(), 3));
      (*other.mutable_must_match())["train.seed"] = "6";
      write_manifest(checkpoint_path(folder.path(), 3), other);
      fs::create_directory(folder.path() / "notes");
      write_bytes(folder.path() / "step-7", "not a checkpoint");
    });
    for (const Index step : {5, 6, 7}) save(world, folder.path(), request(step, 1));
    world.barrier();
    EXPECT_EQ(content_of(folder.path()),
              (std::vector<fs::path>{"notes", "step-1", "step-2", "step-3", "step-7", "step-7.aside"}));
    EXPECT_EQ(read_bytes(folder.path() / "step-7.aside"), "not a checkpoint");
  });
}

// Files of this process may not pass a length: writing fails as on a full disk, in the midst of a file.
class ShortFiles {
 public:
  explicit ShortFiles(rlim_t bytes) : handler_(::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit now = {bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &now);
  }
  ~ShortFiles() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    ::signal(SIGXFSZ, handler_);
  }

 private:
  void (*handler_)(int);
  rlimit before_{};
};

TEST_P(CheckpointTest, AFailedSaveLeavesTheOldOneAlone) {
  test::on_ranks(GetParam(), [&](Communicator& world) {
    const SharedFolder folder(world);
    save(world, folder.path(), request(1, 1));
    world.barrier();
    SmallState state;
    state.fill(2);
    std::string problem;
    {
      std::unique_ptr<ShortFiles> full;
      alone(world, [&] { full = std::make_unique<ShortFiles>(1000); });
      problem = save_checkpoint(world, folder.path(), request(2, 1), state.state());
      alone(world, [&] { full.reset(); });
    }
    EXPECT_NE(problem.find("File too large"), std::string::npos) << problem;
    EXPECT_NE(problem.find(".step-2.partial"), std::string::npos) << problem;
    world.barrier();
    EXPECT_EQ(content_of(folder.path()), std::vector<fs::path>{"step-1"});
    expect_state_of_step(find_checkpoint(world, folder.path()), 1);
  });
}

TEST_P(CheckpointTest, AFolderThatCannotBeMadeIsReportedOnAllRanks) {
  test::on_ranks(GetParam(), [&](Communicator& world) {
    const SharedFolder folder(world);
    alone(world, [&] { write_bytes(folder.path() / "file", "x"); });
    SmallState state;
    const std::string problem = save_checkpoint(world, folder.path() / "file", request(2), state.state());
    EXPECT_NE(problem.find("file"), std::string::npos) << problem;
    EXPECT_FALSE(problem.empty());
  });
}

PLASMID_INSTANTIATE_ON_RANKS(CheckpointTest, test::rank_sets());

TEST(CheckpointSpace, IsAskedForInBytes) {
  const TemporaryFolder folder;
  require_free_bytes(folder.path(), 1);
  expect_error(ErrorCode::io, {folder.path().string(), "9000000000000000000 bytes are needed", "are free"},
               [&] { require_free_bytes(folder.path(), 9'000'000'000'000'000'000); });
}

TEST(CheckpointLoad, RefusesAnotherModel) {
  const TemporaryFolder folder;
  test::run_ranks(2, [&](Communicator& ranks) { save(ranks, folder.path(), request(3)); });
  const fs::path checkpoint = checkpoint_path(folder.path(), 3);
  const v1::CheckpointManifest manifest = read_manifest(checkpoint);

  SmallState other;
  other.parameters().pop_back();
  expect_error(ErrorCode::data, {"h.1.weight", "does not have"},
               [&] { load_checkpoint(checkpoint, manifest, other.state()); });
  SmallState longer;
  longer.parameters().back()->range.end += 1;
  expect_error(ErrorCode::data, {"h.1.weight", "31 elements"},
               [&] { load_checkpoint(checkpoint, manifest, longer.state()); });
}

}  // namespace
}  // namespace plasmid
