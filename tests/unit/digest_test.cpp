#include "runtime/io/digest.hpp"

#include <gtest/gtest.h>

#include "tests/support/expect_error.hpp"
#include "tests/support/temporary_folder.hpp"

namespace plasmid {
namespace {

// Both as `printf ... | xxh128sum` prints them.
constexpr const char* kOfNothing = "99aa06d3014798d86001c324468d497f";
constexpr const char* kOfAbc = "06b05ab6733a618578af5f94892f3950";

TEST(Digest, IsThatOfXxhsum) {
  EXPECT_EQ(Digest().hex(), kOfNothing);
  EXPECT_EQ(digest_of("abc"), (FileDigest{3, kOfAbc}));
}

TEST(Digest, DoesNotDependOnHowTheBytesCome) {
  std::string content(3'000'017, 'x');
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * i >> 7);
  Digest whole, parts;
  whole.update(std::as_bytes(std::span(content)));
  for (std::size_t at = 0, length = 1; at < content.size(); at += length, length = length * 3 % 70001)
    parts.update(std::as_bytes(std::span(content).subspan(at, std::min(length, content.size() - at))));
  EXPECT_EQ(whole.hex(), parts.hex());

  const TemporaryFolder folder;
  write_bytes(folder / "file", content);
  EXPECT_EQ(digest_of_file(folder / "file"), (FileDigest{3'000'017, whole.hex()}));
  content[2'999'999] ^= 1;
  EXPECT_NE(digest_of(content).xxh3_128, whole.hex());
}

TEST(Digest, OfAFileThatIsNotThere) {
  const TemporaryFolder folder;
  expect_error(ErrorCode::no_input, {"absent"}, [&] { digest_of_file(folder / "absent"); });
}

}  // namespace
}  // namespace plasmid
