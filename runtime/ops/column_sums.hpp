#pragma once
#include "runtime/ops/rows.hpp"

namespace plasmid::ops {

// sums[c] += sum over rows of rows[r][c]: f32 over stretches of rows, f64 over the stretches, one order for any number
// of threads.
void add_column_sums(Rows<const float> rows, float* sums);

}  // namespace plasmid::ops
