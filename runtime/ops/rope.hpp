#pragma once
#include "runtime/device/stream.hpp"
#include "runtime/tensor/view.hpp"

namespace plasmid::ops {

// Rotary positions (Su et al. 2021), halves rotated: channel c < d/2 pairs with c + d/2,
// (u, w) -> (u cos t - w sin t, w cos t + u sin t), t = position * base^(-2c/d).
//   x [tokens, heads, d] f32, in place; the two first dims may be strided; position [tokens] i32
// Angles are formed in f64, so a position of 10^7 is as exact as 10. `inverse` rotates back: it is the backward, since
// a rotation's transpose is its inverse.
void rope(View x, ConstView position, double base, bool inverse, Stream&);

namespace ref {
void rope(View x, ConstView position, double base, bool inverse);
}

}  // namespace plasmid::ops
