#include "launcher/run/model_digest.hpp"

#include <gtest/gtest.h>

#include "tests/support/expect_error.hpp"
#include "tests/support/temporary_folder.hpp"

namespace plasmid {
namespace {

namespace fs = std::filesystem;

void write_model(const fs::path& folder, const std::string& weights) {
  fs::create_directories(folder);
  write_bytes(folder / "config.json", "{}");
  write_bytes(folder / "model.safetensors", weights);
}

TEST(ModelDigest, IsOfTheFilesWhereverTheyLie) {
  const TemporaryFolder folder;
  for (const std::size_t size : {std::size_t{0}, std::size_t{5000}, (std::size_t{1} << 24) + 999}) {
    std::string weights(size, 'w');
    write_model(folder / "a", weights);
    write_model(folder / "b", weights);
    const std::string digest = model_digest(folder / "a");
    EXPECT_EQ(model_digest(folder / "b"), digest);
    write_bytes(folder / "b/notes.txt", "of no weight");
    EXPECT_EQ(model_digest(folder / "b"), digest);
    write_model(folder / "b", weights + "w");
    EXPECT_NE(model_digest(folder / "b"), digest) << "longer";
    if (size == 0) continue;
    for (const std::size_t at : {std::size_t{0}, size - 1}) {
      weights[at] = 'x';
      write_model(folder / "b", weights);
      EXPECT_NE(model_digest(folder / "b"), digest) << at;
      weights[at] = 'w';
    }
    write_model(folder / "b", weights);
    write_bytes(folder / "b/config.json", "{ }");
    EXPECT_NE(model_digest(folder / "b"), digest);
  }
  expect_error(ErrorCode::no_input, {"absent"}, [&] { model_digest(folder / "absent"); });
}

}  // namespace
}  // namespace plasmid
