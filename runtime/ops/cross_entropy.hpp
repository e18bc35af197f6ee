#pragma once
#include "runtime/device/stream.hpp"
#include "runtime/tensor/view.hpp"

namespace plasmid::ops {

// Softmax cross-entropy of one chunk of logits; the caller makes chunks so that the whole logits never exist at once.
//   logits [tokens, vocabulary] f32, label [tokens] i32 (-1: not counted), lse [tokens] f32: log sum exp of each row
// Returns the sum over counted rows of lse - logits[label], in f64.
double cross_entropy_forward(ConstView logits, ConstView label, View lse, Stream&);
// In place: logits become scale * (softmax - onehot(label)); rows that do not count become 0.
void cross_entropy_backward(View logits, ConstView label, ConstView lse, float scale, Stream&);

namespace ref {
double cross_entropy_forward(ConstView logits, ConstView label, View lse);
void cross_entropy_backward(View logits, ConstView label, ConstView lse, float scale);
}  // namespace ref

}  // namespace plasmid::ops
