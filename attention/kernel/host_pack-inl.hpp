// How rows and keys are laid out for the register blocks. Read once per instruction set, after host_simd-inl.hpp.
#if defined(PLASMID_HOST_PACK_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef PLASMID_HOST_PACK_INL
#undef PLASMID_HOST_PACK_INL
#else
#define PLASMID_HOST_PACK_INL
#endif

#include <algorithm>
#include <type_traits>

#include "attention/kernel/host_simd-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace plasmid::detail {
namespace HWY_NAMESPACE {

// to[c * to_step + r] = from[r * from_step + c].
HWY_INLINE void transpose(const float* from, Index from_step, Index rows, Index columns, float* to, Index to_step) {
  const hn::FixedTag<float, 4> quad;
  const hn::FixedTag<double, 2> pair;
  Index r = 0;
  for (; r + 4 <= rows; r += 4) {
    Index c = 0;
    for (; c + 4 <= columns; c += 4) {
      const float* source = from + r * from_step + c;
      const auto a = hn::LoadU(quad, source), b = hn::LoadU(quad, source + from_step);
      const auto e = hn::LoadU(quad, source + 2 * from_step), f = hn::LoadU(quad, source + 3 * from_step);
      const auto ab_low = hn::BitCast(pair, hn::InterleaveLower(quad, a, b));
      const auto ab_high = hn::BitCast(pair, hn::InterleaveUpper(quad, a, b));
      const auto ef_low = hn::BitCast(pair, hn::InterleaveLower(quad, e, f));
      const auto ef_high = hn::BitCast(pair, hn::InterleaveUpper(quad, e, f));
      float* target = to + c * to_step + r;
      hn::StoreU(hn::BitCast(quad, hn::InterleaveLower(pair, ab_low, ef_low)), quad, target);
      hn::StoreU(hn::BitCast(quad, hn::InterleaveUpper(pair, ab_low, ef_low)), quad, target + to_step);
      hn::StoreU(hn::BitCast(quad, hn::InterleaveLower(pair, ab_high, ef_high)), quad, target + 2 * to_step);
      hn::StoreU(hn::BitCast(quad, hn::InterleaveUpper(pair, ab_high, ef_high)), quad, target + 3 * to_step);
    }
    for (; c < columns; ++c)
      for (Index i = r; i < r + 4; ++i) to[c * to_step + i] = from[i * from_step + c];
  }
  for (; r < rows; ++r)
    for (Index c = 0; c < columns; ++c) to[c * to_step + r] = from[r * from_step + c];
}

// Channels in lane panels: panel j holds channels [j kStrip, ...) of every row side by side, rows `panel_width(j)`
// apart; the last panel is one vector wide where that is enough. Channels beyond d are zero.
struct LanePanels {
  Index d, rows;
  Index count() const { return ceil_div(d, kStrip); }
  Index width(Index j) const { return d - j * kStrip > kLanes ? kStrip : kLanes; }
  Index offset(Index j) const { return j * kStrip * rows; }
  Index floats() const { return round_up(d, kLanes) * rows; }
  Index channels(Index j) const { return std::min(kStrip, d - j * kStrip); }
};

template <class Element>
inline void pack_row(const Element* row, float factor, const LanePanels& panels, Index r, float* to) {
  for (Index j = 0; j < panels.count(); ++j) {
    float* target = to + panels.offset(j) + r * panels.width(j);
    const Index n = panels.channels(j);
    for (Index c = 0; c < n; ++c) target[c] = factor * widened(row[j * kStrip + c]);
    std::fill(target + n, target + panels.width(j), 0.0f);
  }
}

// Rows [first, first + kStrip) of lane panels as [d][kStrip].
inline void transpose_strip(const float* from, const LanePanels& panels, Index first, float* to) {
  for (Index j = 0; j < panels.count(); ++j)
    transpose(from + panels.offset(j) + first * panels.width(j), panels.width(j), kStrip, panels.channels(j),
              to + j * kStrip * kStrip, kStrip);
}

// Rows lie far apart in a projection's output, where the machine's own prefetching does not follow. All of these are
// inlined: GCC drops calls of functions that only prefetch.
template <class Element>
HWY_INLINE void prefetch_row(Element* row, Index d) {
  constexpr Index kLine = 64 / sizeof(Element);
  for (Index c = 0; c < d; c += kLine) __builtin_prefetch(row + c, !std::is_const_v<Element>, 2);
  __builtin_prefetch(row + d - 1, !std::is_const_v<Element>, 2);
}

// For loops over a block's rows in which each row is met once: what `row` + a few will need.
template <class Element>
HWY_INLINE void prefetch_ahead(const HostCall& call, const RowBlock& block, Index row, const Rows<Element>& rows) {
  constexpr Index kFloatsAhead = 512;
  const Index ahead = row + std::max<Index>(2, kFloatsAhead / call.extent.d);
  if (ahead < block.rows.end)
    prefetch_row(rows.at(call.row_query(ahead), call.row_head(block.kv_head, ahead)), call.extent.d);
}

// Asks for part `part` of `parts` of a tile's rows, to be in the second-level cache when their turn comes.
template <class Element>
HWY_INLINE void prefetch_keys(const HostCall& call, const Rows<Element>& rows, Index kv_head, Index key_tile,
                              Index part, Index parts) {
  const Index first = key_tile * kTileKeys, count = std::min(kTileKeys, call.extent.keys - first);
  for (Index r = count * part / parts; r < count * (part + 1) / parts; ++r)
    prefetch_row(rows.at(first + r, kv_head), call.extent.d);
}
HWY_INLINE void prefetch_keys(const HostCall& call, const StoredRows& rows, Index kv_head, Index key_tile, Index part,
                              Index parts) {
  if (rows.narrow.data) return prefetch_keys(call, rows.narrow, kv_head, key_tile, part, parts);
  prefetch_keys(call, rows.wide, kv_head, key_tile, part, parts);
}

// q of one of the block's rows, scaled, as row r of lane panels.
inline void pack_query(const HostCall& call, const RowBlock& block, Index row, const LanePanels& panels, Index r,
                       float* to) {
  call.q.visit([&](const auto& q) HWY_ATTR {
    prefetch_ahead(call, block, row, q);
    pack_row(q.at(call.row_query(row), call.row_head(block.kv_head, row)), call.scale, panels, r, to);
  });
}

// One tile of keys (or values) as [kTileKeys][d]. Keys that do not exist or do not count are zero, so that whatever
// padding holds stays out of every sum.
inline void copy_keys(const HostCall& call, const StoredRows& from, Index kv_head, Index key_tile, float* to) {
  const Index d = call.extent.d, first = key_tile * kTileKeys;
  const auto& valid = call.mask->key_valid;
  from.visit([&](const auto& rows) HWY_ATTR {
    for (Index r = 0; r < kTileKeys; ++r) {
      const Index key = first + r;
      if (key < call.extent.keys && (valid.empty() || valid[static_cast<std::size_t>(key)] != 0)) {
        const auto* row = rows.at(key, kv_head);
        for (Index c = 0; c < d; ++c) to[r * d + c] = widened(row[c]);
      } else {
        std::fill_n(to + r * d, d, 0.0f);
      }
    }
  });
}

// [kTileKeys][d] as [kPanels][d][kPanel], the order in which score_panel reads it.
inline void pack_key_panels(const float* from, Index d, float* to) {
  for (Index p = 0; p < kPanels; ++p) transpose(from + p * kPanel * d, d, kPanel, d, to + p * kPanel * d, kPanel);
}

}  // namespace HWY_NAMESPACE
}  // namespace plasmid::detail
HWY_AFTER_NAMESPACE();

#endif
