#include <algorithm>

#include "runtime/device/parallel_for.hpp"
#include "runtime/ops/dropout.hpp"
#include "runtime/ops/rows.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/ops/dropout_host.cpp"
#include <hwy/foreach_target.h>

#include "runtime/base/philox-inl.hpp"
#include "runtime/ops/simd-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace plasmid::ops {
namespace HWY_NAMESPACE {

using plasmid::HWY_NAMESPACE::Counters;
using plasmid::HWY_NAMESPACE::CounterTag;
using plasmid::HWY_NAMESPACE::WordTag;

inline constexpr int kVectors = 2;  // of counters at once
inline constexpr std::size_t kMaxDraws = kVectors * 4 * hn::MaxLanes(WordTag());

// The 16-bit draws of the next kVectors * lanes blocks of a row, in the order of the columns.
HWY_INLINE void draw(std::uint64_t key, std::uint64_t row, std::uint64_t block, std::uint16_t* draws) {
  const CounterTag wide;
  const WordTag tag;
  Counters words[4][kVectors];
  for (int n = 0; n < kVectors; ++n) {
    words[0][n] = hn::Iota(wide, block + static_cast<std::uint64_t>(n) * hn::Lanes(wide));
    words[1][n] = hn::ShiftRight<32>(words[0][n]);
    words[2][n] = hn::Set(wide, row), words[3][n] = hn::Set(wide, row >> 32);
  }
  plasmid::HWY_NAMESPACE::philox(key, words);
  const auto word = [&](int w) HWY_ATTR {
    return hn::ConcatEven(tag, hn::BitCast(tag, words[w][1]), hn::BitCast(tag, words[w][0]));
  };
  hn::StoreInterleaved4(word(0), word(1), word(2), word(3), tag, reinterpret_cast<std::uint32_t*>(draws));
}

void DropRow(const DropoutMask& mask, std::uint64_t row, const float* from, float* to, Index width) {
  const D tag;
  const hn::RebindToSigned<D> integers;
  const hn::Rebind<std::uint16_t, D> halves;
  const V scale = hn::Set(tag, mask.scale());
  const auto last_dropped = hn::Set(integers, static_cast<std::int32_t>(mask.dropped) - 1);
  const Index columns = 8 * kVectors * static_cast<Index>(hn::Lanes(CounterTag()));
  HWY_ALIGN std::uint16_t draws[kMaxDraws];
  for (Index begin = 0; begin < width; begin += columns) {
    draw(mask.key, row, static_cast<std::uint64_t>(begin) / 8, draws);
    for_each_vector(std::min(columns, width - begin), [&](Index c, Index n) HWY_ATTR {
      const auto drawn = hn::PromoteTo(integers, hn::LoadU(halves, draws + c));
      const V kept = hn::Mul(load(from + begin + c, n), scale);
      store(hn::IfThenElseZero(hn::RebindMask(tag, hn::Gt(drawn, last_dropped)), kept), to + begin + c, n);
    });
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace plasmid::ops
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace plasmid::ops {
HWY_EXPORT(DropRow);

void dropout(ConstView x, std::span<const Range> ranges, Index first, const DropoutMask& mask, View y, Stream&) {
  constexpr Index kGrain = 4096;  // elements
  const auto from = rows_of<float>(x, x.dim(0), x.dim(1));
  const auto to = rows_of<float>(y, x.dim(0), x.dim(1));
  Index begin = 0;  // local number of the range's first row
  for (const Range range : ranges) {
    PLASMID_CHECK(begin + range.size() <= from.count) << "more row numbers than the " << from.count << " rows";
    parallel_for(range.size(), ceil_div(kGrain, from.width + 1), [&](Index part_begin, Index part_end) {
      for (Index i = part_begin; i < part_end; ++i) HWY_DYNAMIC_DISPATCH(DropRow)
      (mask, static_cast<std::uint64_t>(first + range.begin + i), from[begin + i], to[begin + i], from.width);
    });
    begin += range.size();
  }
  PLASMID_CHECK(begin == from.count) << begin << " row numbers for " << from.count << " rows";
}

}  // namespace plasmid::ops
#endif
