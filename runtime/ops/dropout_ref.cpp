#include "runtime/ops/dropout.hpp"
#include "runtime/ops/rows.hpp"

namespace plasmid::ops::ref {

void dropout(ConstView x, std::span<const Range> ranges, Index first, const DropoutMask& mask, View y) {
  const auto from = rows_of<float>(x, x.dim(0), x.dim(1));
  const auto to = rows_of<float>(y, x.dim(0), x.dim(1));
  Index r = 0;
  for (const Range range : ranges)
    for (Index row = range.begin; row < range.end; ++row, ++r)
      for (Index c = 0; c < from.width; ++c)
        to[r][c] = mask.keeps(static_cast<std::uint64_t>(first + row), static_cast<std::uint64_t>(c))
                       ? from[r][c] * mask.scale()
                       : 0;
  PLASMID_CHECK(r == from.count) << r << " row numbers for " << from.count << " rows";
}

}  // namespace plasmid::ops::ref
