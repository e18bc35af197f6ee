// Philox4x32-10 (philox.hpp) in vectors, one counter a 64-bit lane. Included once per target by kernel files.
#if defined(PLASMID_RUNTIME_BASE_PHILOX_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef PLASMID_RUNTIME_BASE_PHILOX_INL
#undef PLASMID_RUNTIME_BASE_PHILOX_INL
#else
#define PLASMID_RUNTIME_BASE_PHILOX_INL
#endif

#include <hwy/highway.h>

#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace plasmid {
namespace HWY_NAMESPACE {

using CounterTag = hwy::HWY_NAMESPACE::ScalableTag<std::uint64_t>;
using Counters = hwy::HWY_NAMESPACE::Vec<CounterTag>;
using WordTag = hwy::HWY_NAMESPACE::ScalableTag<std::uint32_t>;

// words[w][n]: word w of N vectors of counters, in the low half of each lane; becomes word w of their blocks. The high
// halves are neither read nor cleared.
template <int N>
HWY_INLINE void philox(std::uint64_t key, Counters (&words)[4][N]) {
  namespace hn = hwy::HWY_NAMESPACE;
  const CounterTag wide;
  const WordTag tag;
  const auto multiplier0 = hn::Set(tag, 0xD2511F53u), multiplier1 = hn::Set(tag, 0xCD9E8D57u);
  std::uint32_t k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
    const Counters key0 = hn::Set(wide, k0), key1 = hn::Set(wide, k1);
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      const Counters p0 = hn::MulEven(hn::BitCast(tag, words[0][n]), multiplier0);
      const Counters p1 = hn::MulEven(hn::BitCast(tag, words[2][n]), multiplier1);
      words[0][n] = hn::Xor(hn::Xor(hn::ShiftRight<32>(p1), words[1][n]), key0);
      words[2][n] = hn::Xor(hn::Xor(hn::ShiftRight<32>(p0), words[3][n]), key1);
      words[1][n] = p1, words[3][n] = p0;
    }
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace plasmid
HWY_AFTER_NAMESPACE();
#endif
