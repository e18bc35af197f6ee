#pragma once
#include <cmath>
#include <cstdint>

#include "runtime/base/philox.hpp"

namespace plasmid {

// Which elements of a matrix are kept: a pure function of the key and the element's GLOBAL row and column, so that any
// layout, thread count, order and replay draws the same (dropout: Srivastava et al. 2014, the kept ones scaled up at
// training). Eight neighbouring columns share one Philox block, 16 bits each: probabilities are multiples of 2^-16.
struct DropoutMask {
  std::uint64_t key = 0;
  std::uint32_t dropped = 0;  // of 65536; 0: every element is kept, unscaled

  explicit operator bool() const { return dropped > 0; }
  float scale() const { return 65536.0f / static_cast<float>(65536 - dropped); }
  // The definition; kernels draw block by block.
  bool keeps(std::uint64_t row, std::uint64_t column) const {
    const Philox::Block block = Philox::draw(key, row, column / 8);
    const std::uint32_t word = block[column % 8 / 2];
    return (column % 2 == 0 ? word & 0xFFFF : word >> 16) >= dropped;
  }
};

// round(probability * 65536): what a probability becomes. 0 and 65536 are the caller's to refuse.
inline std::uint32_t dropped_of_65536(double probability) {
  return static_cast<std::uint32_t>(std::lround(probability * 65536));
}

}  // namespace plasmid
