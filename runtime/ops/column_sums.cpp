#include "runtime/ops/column_sums.hpp"

#include <algorithm>
#include <array>

#include "runtime/device/parallel_for.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/ops/column_sums.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace plasmid::ops {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// sums[c] += rows[r][c]
void add_rows(Rows<const float> rows, float* sums) {
  const hn::ScalableTag<float> d;
  const Index lanes = static_cast<Index>(hn::Lanes(d));
  for (Index r = 0; r < rows.count; ++r) {
    const float* row = rows[r];
    Index c = 0;
    for (; c + lanes <= rows.width; c += lanes)
      hn::StoreU(hn::Add(hn::LoadU(d, sums + c), hn::LoadU(d, row + c)), d, sums + c);
    for (; c < rows.width; ++c) sums[c] += row[c];
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace plasmid::ops
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace plasmid::ops {
HWY_EXPORT(add_rows);

void add_column_sums(Rows<const float> rows, float* sums) {
  constexpr Index kColumns = 64, kStretch = 256;
  parallel_for(ceil_div(rows.width, kColumns), 1, [&](Index first, Index last) {
    for (Index block = first; block < last; ++block) {
      const Index begin = block * kColumns, width = std::min(kColumns, rows.width - begin);
      std::array<double, kColumns> total{};
      for (Index r = 0; r < rows.count; r += kStretch) {
        std::array<float, kColumns> part{};
        const Rows<const float> stretch{rows[r] + begin, std::min(kStretch, rows.count - r), width, rows.stride};
        HWY_DYNAMIC_DISPATCH(add_rows)(stretch, part.data());
        for (std::size_t c = 0; c < kColumns; ++c) total[c] += part[c];
      }
      for (Index c = 0; c < width; ++c) put(sums[begin + c], total[static_cast<std::size_t>(c)], Write::accumulate);
    }
  });
}

}  // namespace plasmid::ops
#endif
