#pragma once
#include <cstdint>

namespace plasmid {

using Index = std::int64_t;  // every extent, offset and element count: a million tokens x 4096 channels passes 2^31

struct Range {  // [begin, end)
  Index begin = 0, end = 0;
  constexpr Index size() const { return end - begin; }
  constexpr bool operator==(const Range&) const = default;
};

constexpr Index ceil_div(Index a, Index b) { return a / b + (a % b > 0); }  // b > 0
constexpr Index round_up(Index a, Index b) { return ceil_div(a, b) * b; }

}  // namespace plasmid
