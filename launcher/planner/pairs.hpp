#pragma once
#include <span>

#include "attention/mask/mask.hpp"

namespace plasmid {

// (query, key) pairs that the pattern lets see each other within one document: MaskPlan::pairs without its rows, for
// shards of any length. O(ranges of the one x ranges of the other).
double count_pairs(std::span<const Range> queries, std::span<const Range> keys, const Pattern&);

}  // namespace plasmid
