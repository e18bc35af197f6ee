#include <htslib/bgzf.h>
#include <htslib/hts_log.h>
#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

#include "runtime/base/check.hpp"
#include "runtime/base/error.hpp"
#include "runtime/data/bytes.hpp"

namespace plasmid {
namespace {

struct BgzfTraits {
  static BGZF* empty() { return nullptr; }
  static void close(BGZF* file) noexcept { bgzf_close(file); }
};

class BgzipBytes final : public Bytes {
 public:
  BgzipBytes(const InputFile& file, const VisitBytes& visit) : path_(file.path().string()) {
    hts_set_log_level(HTS_LOG_OFF);  // what it would print is thrown here
    // By descriptor, since htslib takes some paths for addresses on the network.
    Descriptor own(::dup(file.descriptor()));
    if (own) file_.reset(bgzf_dopen(own.get(), "r"));
    if (!file_) throw Error(ErrorCode::io, path_ + ": htslib cannot open it");
    own.release();
    if (bgzf_index_build_init(file_.get()) != 0) throw Error(ErrorCode::memory, path_ + ": no memory for its index");
    pass(visit);
    constexpr int kBgzip = 2;
    if (bgzf_compression(file_.get()) != kBgzip)
      throw Error(ErrorCode::data, path_ + ": bgzip joined to plain gzip; pack all of it with one of them");
    if (bgzf_check_EOF(file_.get()) != 1)
      throw Error(ErrorCode::data, path_ + ": truncated: the end mark of bgzip is missing");
  }

  Index size() const override { return size_; }

  void read(Index offset, std::span<char> to) override {
    PLASMID_CHECK(0 <= offset && offset + static_cast<Index>(to.size()) <= size_);
    if (to.empty()) return;
    if (offset != position_ && bgzf_useek(file_.get(), offset, SEEK_SET) != 0) fail(offset);
    const ssize_t got = bgzf_read(file_.get(), to.data(), to.size());
    if (got != static_cast<ssize_t>(to.size())) fail(offset);
    position_ = offset + got;
  }

 private:
  void pass(const VisitBytes& visit) {
    std::vector<char> chunk(std::size_t{1} << 20);
    for (;;) {
      const ssize_t got = bgzf_read(file_.get(), chunk.data(), chunk.size());
      if (got < 0) fail(size_);
      if (got == 0) break;
      size_ += got;
      if (visit) visit({chunk.data(), static_cast<std::size_t>(got)});
    }
  }
  [[noreturn]] void fail(Index offset) const {
    throw Error(ErrorCode::data,
                path_ + ": damaged bgzip data after byte " + std::to_string(offset) + " of the unpacked text");
  }

  std::string path_;
  UniqueHandle<BGZF*, BgzfTraits> file_;
  Index size_ = 0, position_ = -1;
};

}  // namespace

std::unique_ptr<Bytes> bgzip_bytes(const InputFile& file, const VisitBytes& visit) {
  return std::make_unique<BgzipBytes>(file, visit);
}

}  // namespace plasmid
