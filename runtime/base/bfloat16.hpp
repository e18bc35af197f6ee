#pragma once
#include <bit>
#include <cstdint>

#include "runtime/base/dtype.hpp"

namespace plasmid {

constexpr float widened(float x) { return x; }
constexpr float widened(BFloat16 x) { return std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16); }

// The nearest, ties to even: at most 2^-9 away, relatively. Beyond the largest: infinity. NaN stays NaN.
constexpr BFloat16 rounded(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t nearest = (bits + 0x7FFFu + (bits >> 16 & 1)) >> 16, quiet = bits >> 16 | 0x40u;
  return {static_cast<std::uint16_t>((bits & 0x7FFFFFFFu) > 0x7F800000u ? quiet : nearest)};
}

}  // namespace plasmid
