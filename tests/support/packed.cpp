#include "tests/support/packed.hpp"

#include <zlib.h>

#include <algorithm>

#include "runtime/base/check.hpp"
#include "tests/support/temporary_folder.hpp"
#ifdef PLASMID_HTS
#include <htslib/bgzf.h>
#endif

namespace plasmid {

std::string gzipped(const std::string& text) {
  const TemporaryFolder folder;
  const gzFile file = gzopen((folder / "a").c_str(), "wb1");
  PLASMID_CHECK(file &&
                gzwrite(file, text.data(), static_cast<unsigned>(text.size())) == static_cast<int>(text.size()));
  PLASMID_CHECK(gzclose(file) == Z_OK);
  return read_bytes(folder / "a");
}

#ifdef PLASMID_HTS
std::string bgzipped(const std::string& text, std::size_t block) {
  const TemporaryFolder folder;
  BGZF* file = bgzf_open((folder / "a").c_str(), "w1");
  PLASMID_CHECK(file);
  for (std::size_t at = 0; at < text.size(); at += block) {
    const std::size_t size = std::min(block, text.size() - at);
    PLASMID_CHECK(bgzf_write(file, text.data() + at, size) == static_cast<ssize_t>(size) && bgzf_flush(file) == 0);
  }
  PLASMID_CHECK(bgzf_close(file) == 0);
  return read_bytes(folder / "a");
}
#endif

}  // namespace plasmid
