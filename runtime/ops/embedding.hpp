#pragma once
#include "runtime/device/stream.hpp"
#include "runtime/nn/module.hpp"
#include "runtime/tensor/view.hpp"

namespace plasmid::ops {

// y[t] = table[index[t]], or y[t] += ... as `write` says.  index [tokens] i32, table [rows, width] f32, y [tokens,
// width]. An index outside the table is CHECKed.
void embedding_forward(ConstView index, ConstView table, Write write, View y, Stream&);
// dtable[index[t]] += dy[t], in the order of t; a row with more than 256 tokens sums stretches of them in f32, the
// stretches in f64, and rounds once. The same bits for any number of threads. Takes 16 bytes a row, and the more of 96
// KiB and 3 bytes a token in each thread, beside the arenas.
void embedding_backward(ConstView index, ConstView dy, View dtable, Stream&);

namespace ref {
void embedding_forward(ConstView index, ConstView table, Write write, View y);
void embedding_backward(ConstView index, ConstView dy, View dtable);
}  // namespace ref

}  // namespace plasmid::ops
