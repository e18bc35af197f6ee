// Which weights of one strip and one key tile dropout keeps, for the instruction set that foreach_target.h is at.
#if defined(PLASMID_HOST_DROPOUT_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef PLASMID_HOST_DROPOUT_INL
#undef PLASMID_HOST_DROPOUT_INL
#else
#define PLASMID_HOST_DROPOUT_INL
#endif

#include <algorithm>

#include "attention/kernel/host_simd-inl.hpp"
#include "runtime/base/philox-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace plasmid::detail {
namespace HWY_NAMESPACE {

// One bit a pair, as the instruction set stores masks of a vector.
class KeptBits {
 public:
  // rows [kStrip]: their numbers. Draws for the keys of `runs` alone.
  HWY_NOINLINE void draw(const HostCall& call, const std::uint64_t* rows, Index key_tile,
                         std::span<const KeyRun> runs) {
    for (const KeyRun run : runs) {
      Index key = key_tile * kTileKeys + run.begin;
      const Index end = key_tile * kTileKeys + run.end;
      auto stretch = std::ranges::upper_bound(call.key_stretches, key, {}, &KeyStretch::first) - 1;
      for (; key < end; ++stretch) {
        const Index stop = std::min(end, (stretch + 1)->first);
        draw_neighbours(*call.dropout, rows, stretch->token + key - stretch->first, stop - key,
                        bits_ + key - key_tile * kTileKeys);
        key = stop;
      }
    }
  }
  // Lanes of a key of the tile and vector 0 or 1 of the strip.
  HWY_INLINE hn::Mask<FloatTag> operator()(Index key, Index vector) const {
    return hn::LoadMaskBits(FloatTag(), reinterpret_cast<const std::uint8_t*>(&bits_[key][vector]));
  }

 private:
  using Bits = std::uint16_t[2];
  static constexpr int kKeys = 8;                                 // that share a block
  static constexpr int kAtOnce = HWY_TARGET <= HWY_AVX3 ? 4 : 2;  // vectors of counters; four cover a strip

  static void draw_neighbours(const AttentionDropout& dropout, const std::uint64_t* rows, Index token, Index count,
                              Bits* to) {
    Bits whole[kKeys];
    while (count > 0) {
      const Index skip = token % kKeys, taken = std::min(count, kKeys - skip);
      draw_block(dropout.mask, rows, static_cast<std::uint64_t>(token / kKeys), whole);
      std::copy_n(&whole[skip][0], 2 * taken, &to[0][0]);
      token += taken, count -= taken, to += taken;
    }
  }

  static HWY_INLINE void draw_block(const DropoutMask& mask, const std::uint64_t* rows, std::uint64_t block, Bits* to) {
    using plasmid::HWY_NAMESPACE::CounterTag;
    using plasmid::HWY_NAMESPACE::WordTag;
    const CounterTag wide;
    const WordTag tag;
    const IntTag integers;
    const auto last_dropped = hn::Set(integers, static_cast<std::int32_t>(mask.dropped) - 1);
    const auto low_half = hn::Set(tag, 0xFFFFu);
    for (int first = 0; first < 4; first += kAtOnce) {
      plasmid::HWY_NAMESPACE::Counters words[4][kAtOnce];
#pragma GCC unroll 4
      for (int n = 0; n < kAtOnce; ++n) {
        words[0][n] = hn::Set(wide, block), words[1][n] = hn::Set(wide, block >> 32);
        words[2][n] = hn::LoadU(wide, rows + (first + n) * (kLanes / 2));
        words[3][n] = hn::ShiftRight<32>(words[2][n]);
      }
      plasmid::HWY_NAMESPACE::philox(mask.key, words);
#pragma GCC unroll 4
      for (int w = 0; w < 4; ++w) {
#pragma GCC unroll 2
        for (int n = 0; n < kAtOnce; n += 2) {
          const auto drawn = hn::ConcatEven(tag, hn::BitCast(tag, words[w][n + 1]), hn::BitCast(tag, words[w][n]));
          const auto keep = [&](auto half, std::uint16_t& bits) HWY_ATTR {
            const auto kept = hn::Gt(hn::BitCast(integers, half), last_dropped);
            hn::StoreMaskBits(integers, kept, reinterpret_cast<std::uint8_t*>(&bits));
          };
          const int vector = (first + n) / 2;
          keep(hn::And(drawn, low_half), to[2 * w][vector]);
          keep(hn::ShiftRight<16>(drawn), to[2 * w + 1][vector]);
        }
      }
    }
  }

  Bits bits_[kTileKeys + 2] = {};  // a load may read up to eight bytes
};

}  // namespace HWY_NAMESPACE
}  // namespace plasmid::detail
HWY_AFTER_NAMESPACE();

#endif
