#include <algorithm>

#include "runtime/device/parallel_for.hpp"
#include "runtime/ops/transpose.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/ops/transpose_host.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace plasmid::ops {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// to[c - begin][r] = from[r][c] for all rows and columns [begin, end); rows of `to` are from.count long. Squares of 16
// fill whole lines of both; four rows at a time leave the registers as columns of four.
void transpose_columns(const Rows<const float>& from, Index begin, Index end, float* to) {
  constexpr Index kSide = 16;
  const hn::CappedTag<float, kSide> d;
  const hn::FixedTag<float, 4> four;
  const Index lanes = static_cast<Index>(hn::Lanes(d));
  HWY_ALIGN float quads[4 * kSide];
  const Index wide_end = begin + (end - begin) / lanes * lanes, tall_end = from.count / 4 * 4;
  for (Index column = begin; column < wide_end; column += lanes)
    for (Index r = 0; r < tall_end; r += 4) {
      hn::StoreInterleaved4(hn::LoadU(d, from[r] + column), hn::LoadU(d, from[r + 1] + column),
                            hn::LoadU(d, from[r + 2] + column), hn::LoadU(d, from[r + 3] + column), d, quads);
      for (Index i = 0; i < lanes; ++i)
        hn::StoreU(hn::Load(four, quads + 4 * i), four, to + (column - begin + i) * from.count + r);
    }
  for (Index c = begin; c < end; ++c)
    for (Index r = c < wide_end ? tall_end : 0; r < from.count; ++r) to[(c - begin) * from.count + r] = from[r][c];
}

}  // namespace HWY_NAMESPACE
}  // namespace plasmid::ops
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace plasmid::ops {
HWY_EXPORT(transpose_columns);

void transpose(Rows<const float> from, float* to) {
  constexpr Index kColumns = 16;
  parallel_for(ceil_div(from.width, kColumns), 4, [&](Index first, Index last) {
    for (Index block = first; block < last; ++block) {
      const Index begin = block * kColumns, end = std::min(begin + kColumns, from.width);
      HWY_DYNAMIC_DISPATCH(transpose_columns)(from, begin, end, to + begin * from.count);
    }
  });
}

}  // namespace plasmid::ops
#endif
