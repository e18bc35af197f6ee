#include "parallel/checkpoint/manifest.hpp"

#include <gtest/gtest.h>

#include "runtime/io/digest.hpp"
#include "tests/support/expect_error.hpp"
#include "tests/support/temporary_folder.hpp"

namespace plasmid {
namespace {

class ManifestTest : public testing::Test {
 protected:
  ManifestTest() {
    std::filesystem::create_directory(checkpoint_);
    write_bytes(checkpoint_ / "config.json", "{}\n");
    manifest_.set_format_version(kCheckpointFormat);
    manifest_.set_program_version("0.1");
    manifest_.set_step(7);
    manifest_.set_tokens(Index{1} << 60);  // JSON numbers are doubles: a whole number travels as text
    manifest_.mutable_mesh()->set_cp(2);
    (*manifest_.mutable_must_match())["model.width"] = "64";
    v1::CheckpointFile& file = *manifest_.add_files();
    file.set_name("config.json");
    file.set_bytes(3);
    file.set_xxh3_128(digest_of("{}\n").xxh3_128);
    v1::TensorPiece& piece = *file.add_pieces();
    piece.set_tensor("h.0.weight");
    piece.set_begin(0);
    piece.set_end(3);
  }

  void expect_refusal(const std::vector<std::string>& words) {
    write_manifest(checkpoint_, manifest_);
    expect_error(ErrorCode::data, words, [&] { read_manifest(checkpoint_); });
  }
  v1::CheckpointFile& file() { return *manifest_.mutable_files(0); }

  TemporaryFolder folder_;
  const std::filesystem::path checkpoint_ = folder_ / "step-7";
  v1::CheckpointManifest manifest_;
};

TEST_F(ManifestTest, ReadsWhatItWrote) {
  write_manifest(checkpoint_, manifest_);
  const v1::CheckpointManifest read = read_manifest(checkpoint_);
  EXPECT_EQ(read.DebugString(), manifest_.DebugString());
  EXPECT_EQ(read_bytes(checkpoint_ / "manifest.xxh128"),
            digest_of(read_bytes(checkpoint_ / "manifest.json")).xxh3_128 + "  manifest.json\n");
  verify_files(checkpoint_, read);
  EXPECT_EQ(total_bytes(read), 3);
}

TEST_F(ManifestTest, FindsEveryFlippedBit) {
  write_manifest(checkpoint_, manifest_);
  for (const char* name : {"manifest.json", "manifest.xxh128"}) {
    const std::string sound = read_bytes(checkpoint_ / name);
    for (std::size_t at = 0; at < sound.size(); at += 7) {
      std::string damaged = sound;
      damaged[at] = static_cast<char>(damaged[at] ^ 1 << at % 8);
      write_bytes(checkpoint_ / name, damaged);
      expect_error(ErrorCode::data, {"manifest.json", "digest"}, [&] { read_manifest(checkpoint_); });
    }
    write_bytes(checkpoint_ / name, sound);
  }
  verify_files(checkpoint_, read_manifest(checkpoint_));
}

TEST_F(ManifestTest, RefusesWhatIsMissing) {
  expect_error(ErrorCode::no_input, {"manifest.json"}, [&] { read_manifest(checkpoint_); });
  write_bytes(checkpoint_ / "manifest.json", "{}");
  expect_error(ErrorCode::no_input, {"manifest.xxh128"}, [&] { read_manifest(checkpoint_); });
}

TEST_F(ManifestTest, RefusesJunkUnderASoundDigest) {
  for (const std::string& junk :
       {std::string("{\"step\": 7"), std::string("[7]"), std::string(3, '\0'), std::string(),
        std::string("{\"step\": \"seven\"}"), std::string("{\"stride\": 7}"), std::string(100000, '[')}) {
    write_bytes(checkpoint_ / "manifest.json", junk);
    write_bytes(checkpoint_ / "manifest.xxh128", digest_of(junk).xxh3_128 + "  manifest.json\n");
    expect_error(ErrorCode::data, {"manifest.json"}, [&] { read_manifest(checkpoint_); });
  }
}

TEST_F(ManifestTest, RefusesAnotherFormatOrStep) {
  manifest_.set_format_version(2);
  write_manifest(checkpoint_, manifest_);
  expect_error(ErrorCode::config, {"format 2", "reads 1"}, [&] { read_manifest(checkpoint_); });
  manifest_.set_format_version(0);
  expect_refusal({"format 0", "reads 1"});
  manifest_.set_format_version(kCheckpointFormat);
  manifest_.set_step(8);
  expect_refusal({"step-7", "of step 8"});
}

TEST_F(ManifestTest, RefusesNamesThatLeaveTheFolder) {
  for (const char* name : {"", ".", "..", "../config.json", "a/b", "/etc/passwd", ".hidden"}) {
    file().set_name(name);
    expect_refusal({"beside the manifest"});
  }
}

TEST_F(ManifestTest, RefusesFilesThatAreNotDescribed) {
  *manifest_.add_files() = file();
  expect_refusal({"config.json", "twice"});
  manifest_.mutable_files()->RemoveLast();
  file().set_bytes(-1);
  expect_refusal({"no length"});
  file().set_bytes(3);
  file().set_xxh3_128("xyz");
  expect_refusal({"no digest"});
}

TEST_F(ManifestTest, RefusesPiecesThatHoldNothing) {
  for (const Range range : {Range{3, 3}, Range{4, 2}, Range{-1, 2}}) {
    file().mutable_pieces(0)->set_begin(range.begin);
    file().mutable_pieces(0)->set_end(range.end);
    expect_refusal({"h.0.weight", std::to_string(range.begin)});
  }
}

TEST_F(ManifestTest, VerifyingNamesTheFileThatDiffers) {
  write_manifest(checkpoint_, manifest_);
  write_bytes(checkpoint_ / "config.json", "{}");
  expect_error(ErrorCode::data, {"config.json", "2 bytes", "says 3"}, [&] { verify_files(checkpoint_, manifest_); });
  write_bytes(checkpoint_ / "config.json", "{ \n");
  expect_error(ErrorCode::data, {"config.json", "digest"}, [&] { verify_files(checkpoint_, manifest_); });
  std::filesystem::remove(checkpoint_ / "config.json");
  expect_error(ErrorCode::no_input, {"config.json"}, [&] { verify_files(checkpoint_, manifest_); });
}

TEST(Checkpoints, AreFoundByNameAlone) {
  const TemporaryFolder folder;
  EXPECT_TRUE(checkpoint_steps(folder / "absent").empty());
  for (const char* name : {"step-12", "step-3", "step-012", "step-", "step-0", "step--4", "step-5x", "stop-6",
                           ".step-9.partial", "step-99999999999999999999"})
    std::filesystem::create_directory(folder / name);
  EXPECT_EQ(checkpoint_steps(folder.path()), (std::vector<Index>{3, 12}));
  EXPECT_EQ(partial_checkpoints(folder.path()), (std::vector<std::filesystem::path>{folder / ".step-9.partial"}));
  EXPECT_EQ(partial_path(folder.path(), 9), folder / ".step-9.partial");
}

}  // namespace
}  // namespace plasmid
