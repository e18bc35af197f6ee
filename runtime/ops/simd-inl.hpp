// Rows of floats through Highway's vectors of any length, tails included. Included once per target by kernel files.
#if defined(PLASMID_RUNTIME_OPS_SIMD_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef PLASMID_RUNTIME_OPS_SIMD_INL
#undef PLASMID_RUNTIME_OPS_SIMD_INL
#else
#define PLASMID_RUNTIME_OPS_SIMD_INL
#endif

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include <cstring>

#include "runtime/base/index.hpp"

HWY_BEFORE_NAMESPACE();
namespace plasmid::ops {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

HWY_INLINE Index lanes() { return static_cast<Index>(hn::Lanes(D())); }

// The first n <= lanes() elements; the others are zero.
HWY_INLINE V load(const float* from, Index n) {
  if (n == lanes()) return hn::LoadU(D(), from);
  HWY_ALIGN float buffer[HWY_MAX_BYTES / sizeof(float)] = {};
  std::memcpy(buffer, from, static_cast<std::size_t>(n) * sizeof(float));
  return hn::Load(D(), buffer);
}

HWY_INLINE void store(V v, float* to, Index n) {
  if (n == lanes()) return hn::StoreU(v, D(), to);
  HWY_ALIGN float buffer[HWY_MAX_BYTES / sizeof(float)];
  hn::Store(v, D(), buffer);
  std::memcpy(to, buffer, static_cast<std::size_t>(n) * sizeof(float));
}

HWY_INLINE V first_lanes(V v, Index n) {  // the others become zero
  return n == lanes() ? v : hn::IfThenElseZero(hn::FirstN(D(), static_cast<std::size_t>(n)), v);
}

// body(c, n): elements [c, c + n) of [0, width), vector by vector; n < lanes() only in the last call.
template <class Body>
HWY_INLINE void for_each_vector(Index width, const Body& body) {
  Index c = 0;
  for (; c + lanes() <= width; c += lanes()) body(c, lanes());
  if (c < width) body(c, width - c);
}

// Combines the vectors that body(c, n) returns: four chains, so that latency does not bind, and a fixed order.
template <class Combine, class Body>
HWY_INLINE V fold(Index width, V start, const Combine& combine, const Body& body) {
  V a = start, b = start, c = start, d = start;
  Index i = 0;
  for (; i + 4 * lanes() <= width; i += 4 * lanes()) {
    a = combine(a, body(i, lanes()));
    b = combine(b, body(i + lanes(), lanes()));
    c = combine(c, body(i + 2 * lanes(), lanes()));
    d = combine(d, body(i + 3 * lanes(), lanes()));
  }
  for (; i + lanes() <= width; i += lanes()) a = combine(a, body(i, lanes()));
  if (i < width) b = combine(b, body(i, width - i));
  return combine(combine(a, b), combine(c, d));
}

template <class Body>
HWY_INLINE float sum(Index width, const Body& body) {
  const V total = fold(
      width, hn::Zero(D()), [](V a, V b) HWY_ATTR { return hn::Add(a, b); }, body);
  return hn::GetLane(hn::SumOfLanes(D(), total));
}

}  // namespace HWY_NAMESPACE
}  // namespace plasmid::ops
HWY_AFTER_NAMESPACE();
#endif
