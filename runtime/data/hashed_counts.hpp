#pragma once
#include <algorithm>
#include <bit>
#include <cstdint>
#include <utility>
#include <vector>

#include "runtime/base/index.hpp"

namespace plasmid {

// Counts of keys that are hashes already. Open addressing in a table that doubles when it is two thirds full, within a
// bound of bytes.
class HashedCounts {
 public:
  explicit HashedCounts(Index most_bytes) : most_bytes_(most_bytes), slots_(kFirst) {}

  // Counts one more. False, and counts nothing, where the key is new and its table would pass the bound.
  bool add(std::uint64_t key) {
    Slot& slot = slots_[place(key)];
    if (slot.count > 0) return ++slot.count;
    if (3 * (used_ + 1) > 2 * slots_.size()) return grow() && add(key);
    slot = {key, 1};
    ++used_;
    return true;
  }
  std::uint64_t of(std::uint64_t key) const { return slots_[place(key)].count; }

 private:
  struct Slot {
    std::uint64_t key = 0, count = 0;
  };
  static constexpr std::size_t kFirst = 1024;

  std::size_t place(std::uint64_t key) const {  // the key's, or a free one
    const std::size_t mask = slots_.size() - 1;
    std::size_t at = key & mask;
    while (slots_[at].count > 0 && slots_[at].key != key) at = (at + 1) & mask;
    return at;
  }
  bool grow() {
    const auto bytes = static_cast<Index>(3 * slots_.size() * sizeof(Slot));  // both tables, while they are copied
    if (bytes > most_bytes_) return false;
    std::vector<Slot> old(2 * slots_.size());
    std::swap(old, slots_);
    for (const Slot& slot : old)
      if (slot.count > 0) slots_[place(slot.key)] = slot;
    return true;
  }

  Index most_bytes_;
  std::vector<Slot> slots_;
  std::size_t used_ = 0;
};

}  // namespace plasmid
