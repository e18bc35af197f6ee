#pragma once
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "runtime/base/index.hpp"

namespace plasmid {

// Counts the bytes a rank holds, by tag ("weights", "saved.attention", "ring.kv"). One per rank, not thread-safe: the
// rank's main thread takes and gives back. Outlives every arena that writes to it.
class Ledger {
 public:
  void add(std::string_view tag, Index bytes);
  void remove(std::string_view tag, Index bytes);

  Index live_bytes() const { return live_; }
  Index peak_bytes() const { return peak_; }
  void restart_peak() { peak_ = live_; }
  Index live_bytes(std::string_view tag) const;
  std::string largest_tags(int how_many) const;  // "saved.mlp 1.2 GiB, ring.kv 64.0 MiB", for error messages
  void for_each_tag(const std::function<void(std::string_view tag, Index live, Index peak)>&) const;

 private:
  struct Count {
    Index live = 0, peak = 0;
  };
  std::map<std::string, Count, std::less<>> tags_;
  Index live_ = 0, peak_ = 0;
};

std::string human_bytes(Index bytes);  // "1.2 GiB"

}  // namespace plasmid
