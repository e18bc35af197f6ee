#pragma once
#include "runtime/ops/rows.hpp"

namespace plasmid::ops {

// to [from.width, from.count], contiguous: to[c][r] = from[r][c].
void transpose(Rows<const float> from, float* to);

}  // namespace plasmid::ops
