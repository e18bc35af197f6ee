#pragma once
#include <span>

#include "runtime/base/dropout_mask.hpp"
#include "runtime/base/index.hpp"
#include "runtime/device/stream.hpp"
#include "runtime/tensor/view.hpp"

namespace plasmid::ops {

// y = x * mask.scale() where the mask keeps, 0 where not; also the gradient's way back. x, y [rows, width] f32, whose
// local rows are, in order, the global rows `first` + those of the ascending `ranges`. y may be x.
void dropout(ConstView x, std::span<const Range> ranges, Index first, const DropoutMask&, View y, Stream&);

namespace ref {
void dropout(ConstView x, std::span<const Range> ranges, Index first, const DropoutMask&, View y);
}

}  // namespace plasmid::ops
