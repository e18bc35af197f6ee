#pragma once
#include "parallel/comm/communicator.hpp"

namespace plasmid {

// sum = sum (op) part, element by element. Contiguous host tensors of one shape; f32, f64, i32, i64.
void reduce_into(View sum, ConstView part, Reduce);

}  // namespace plasmid
