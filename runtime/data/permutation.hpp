#pragma once
#include <bit>
#include <cstdint>
#include <utility>

#include "runtime/base/check.hpp"
#include "runtime/base/index.hpp"
#include "runtime/base/philox.hpp"

namespace plasmid {

// Element `i` of a permutation of [0, n) that (seed, epoch) name, without a table: a Feistel network (Luby and Rackoff
// 1988) whose round function is Philox, on the smallest even number of bits that holds n; a value outside [0, n) goes
// through again until it falls inside (cycle walking, Black and Rogaway 2002), fewer than four times on average.
inline Index permuted(Index i, Index n, std::uint64_t seed, std::uint64_t epoch) {
  PLASMID_CHECK(0 <= i && i < n) << i << " of " << n;
  if (n == 1) return 0;
  constexpr int kRounds = 8;
  const int half = (static_cast<int>(std::bit_width(static_cast<std::uint64_t>(n - 1))) + 1) / 2;
  const std::uint64_t mask = (std::uint64_t{1} << half) - 1;
  const std::uint64_t stream = name_key("data.order") + epoch;
  auto value = static_cast<std::uint64_t>(i);
  do {
    std::uint64_t left = value >> half, right = value & mask;
    for (std::uint64_t round = 0; round < kRounds; ++round) {
      const Philox::Block bits = Philox::draw(seed, stream, round << 32 | right);
      left ^= bits[0] & mask;
      std::swap(left, right);
    }
    value = left << half | right;
  } while (value >= static_cast<std::uint64_t>(n));
  return static_cast<Index>(value);
}

}  // namespace plasmid
