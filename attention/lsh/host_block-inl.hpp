// One chunk of tokens as keys and as queries, for the instruction set that foreach_target.h is at. No include guard of
// the usual kind: the file is read once per instruction set.
#if defined(PLASMID_LSH_HOST_BLOCK_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef PLASMID_LSH_HOST_BLOCK_INL
#undef PLASMID_LSH_HOST_BLOCK_INL
#else
#define PLASMID_LSH_HOST_BLOCK_INL
#endif

#include <cmath>
#include <cstring>
#include <limits>

#include "attention/kernel/host_pack-inl.hpp"
#include "attention/kernel/host_simd-inl.hpp"
#include "attention/lsh/host.hpp"

HWY_BEFORE_NAMESPACE();
namespace plasmid::detail::lsh {
namespace HWY_NAMESPACE {

using namespace ::plasmid::detail::HWY_NAMESPACE;  // NOLINT: the register blocks of dense attention
namespace hn = hwy::HWY_NAMESPACE;

inline constexpr std::size_t kMaxChunkPanels = static_cast<std::size_t>(ceil_div(kMaxLshChunk, kMinPanel));
using PanelStates = std::array<PanelState, kMaxChunkPanels>;
using KeyRuns = std::array<KeyRun, kMaxChunkPanels>;

struct Extent {  // of any chunk of a call
  Index chunk, d;
  Index keys() const { return round_up(chunk, kPanel); }
  Index panels() const { return ceil_div(chunk, kPanel); }
  Index strips() const { return ceil_div(chunk, kStrip); }
  Index lanes() const { return strips() * kStrip; }
};

struct KeyBlock {
  float *rows, *panels;                   // [keys][d] normalised, [panels][d][kPanel]
  float *value_rows, *value_panels;       // likewise; the latter for backward
  float* inverse_norm;                    // [keys]
  std::int32_t *row, *position, *bucket;  // [keys]
  std::int32_t *first, *last;             // [panels]: the lowest and the highest position
  Index count = 0;

  KeyBlock(Carver& carver, const Extent& e, bool backward) {
    const Index all = e.keys() * e.d;
    rows = carver.floats(all), panels = carver.floats(all), value_rows = carver.floats(all);
    value_panels = backward ? carver.floats(all) : nullptr;
    inverse_norm = carver.floats(e.keys());
    row = carver.ints(e.keys()), position = carver.ints(e.keys()), bucket = carver.ints(e.keys());
    first = carver.ints(e.panels()), last = carver.ints(e.panels());
  }
};

// to[c * kPanel + r] = from[r * d + c] for R rows, 4 or 2.
template <int R>
HWY_INLINE void pack_rows(const float* from, Index d, float* to) {
  const hn::FixedTag<float, 4> quad;
  const hn::FixedTag<float, 2> two;
  const hn::FixedTag<double, 2> pair;
  Index c = 0;
  for (; c + 4 <= d; c += 4) {
    const auto x0 = hn::LoadU(quad, from + c), x1 = hn::LoadU(quad, from + d + c);
    const auto low = hn::InterleaveLower(quad, x0, x1), high = hn::InterleaveUpper(quad, x0, x1);
    float* target = to + c * kPanel;
    if constexpr (R == 4) {
      const auto x2 = hn::LoadU(quad, from + 2 * d + c), x3 = hn::LoadU(quad, from + 3 * d + c);
      const auto a = hn::BitCast(pair, low), b = hn::BitCast(pair, hn::InterleaveLower(quad, x2, x3));
      const auto e = hn::BitCast(pair, high), f = hn::BitCast(pair, hn::InterleaveUpper(quad, x2, x3));
      hn::StoreU(hn::BitCast(quad, hn::InterleaveLower(pair, a, b)), quad, target);
      hn::StoreU(hn::BitCast(quad, hn::InterleaveUpper(pair, a, b)), quad, target + kPanel);
      hn::StoreU(hn::BitCast(quad, hn::InterleaveLower(pair, e, f)), quad, target + 2 * kPanel);
      hn::StoreU(hn::BitCast(quad, hn::InterleaveUpper(pair, e, f)), quad, target + 3 * kPanel);
    } else {
      hn::StoreU(hn::LowerHalf(two, low), two, target);
      hn::StoreU(hn::UpperHalf(two, low), two, target + kPanel);
      hn::StoreU(hn::LowerHalf(two, high), two, target + 2 * kPanel);
      hn::StoreU(hn::UpperHalf(two, high), two, target + 3 * kPanel);
    }
  }
  for (; c < d; ++c)
    for (int r = 0; r < R; ++r) to[c * kPanel + r] = from[r * d + c];
}

// kPanel rows of d floats as [d][kPanel].
HWY_INLINE void pack_panel(const float* from, Index d, float* to) {
  constexpr Index quads = kPanel / 4 * 4;
  static_assert(kPanel % 4 == 0 || kPanel % 4 == 2);
  for (Index r = 0; r < quads; r += 4) pack_rows<4>(from + r * d, d, to + r);
  if constexpr (kPanel % 4 == 2) pack_rows<2>(from + quads * d, d, to + quads);
}

HWY_INLINE float dot_rows(const float* a, const float* b, Index d) {
  const FloatTag tag;
  Floats sum0 = hn::Zero(tag), sum1 = sum0;
  Index c = 0;
  for (; c + kStrip <= d; c += kStrip) {
    sum0 = hn::MulAdd(load(a + c), load(b + c), sum0);
    sum1 = hn::MulAdd(load(a + c + kLanes), load(b + c + kLanes), sum1);
  }
  float sum = hn::GetLane(hn::SumOfLanes(tag, hn::Add(sum0, sum1)));
  for (; c < d; ++c) sum += a[c] * b[c];
  return sum;
}

// to = factor * from (+ to)
template <bool accumulate>
HWY_INLINE void scale_row(const float* from, float factor, Index d, float* to) {
  const Floats by = splat(factor);
  Index c = 0;
  for (; c + kLanes <= d; c += kLanes)
    store(accumulate ? hn::MulAdd(by, load(from + c), load(to + c)) : hn::Mul(by, load(from + c)), to + c);
  for (; c < d; ++c) to[c] = accumulate ? std::fma(factor, from[c], to[c]) : factor * from[c];
}

inline void pack_keys(const LshCall& call, const Extent& e, Index head, const std::int32_t* rows, Index count,
                      KeyBlock& block) {
  const Index d = e.d;
  block.count = count;
  for (Index r = 0; r < count; ++r) {
    const Index row = rows[r];
    const float* x = call.qk.at(row, head);
    const float norm = std::sqrt(dot_rows(x, x, d));
    block.inverse_norm[r] = norm > 0 ? 1 / norm : 0;
    scale_row<false>(x, block.inverse_norm[r], d, block.rows + r * d);
    std::memcpy(block.value_rows + r * d, call.v.at(row, head), static_cast<std::size_t>(d) * sizeof(float));
    block.row[r] = rows[r], block.position[r] = call.position_of(row);
    if (call.same_bucket) block.bucket[r] = call.bucket[head * call.bucket_step + row];
  }
  const Index padded = round_up(count, kPanel);
  std::fill(block.rows + count * d, block.rows + padded * d, 0.0f);
  std::fill(block.value_rows + count * d, block.value_rows + padded * d, 0.0f);
  for (Index p = 0; p * kPanel < count; ++p) {
    pack_panel(block.rows + p * kPanel * d, d, block.panels + p * kPanel * d);
    if (block.value_panels) pack_panel(block.value_rows + p * kPanel * d, d, block.value_panels + p * kPanel * d);
    const auto [low, high] =
        std::minmax_element(block.position + p * kPanel, block.position + std::min(count, (p + 1) * kPanel));
    block.first[p] = *low, block.last[p] = *high;
  }
}

// A chunk's last panel often holds few keys: up to so many take a register block of their own.
inline constexpr Index kShortPanel = 4;
constexpr Index panel_rows(Index count, Index panel) {
  return count - panel * kPanel <= kShortPanel ? kShortPanel : kPanel;
}

// sums = K Q^T for the first R keys of a panel and one strip of rows.   keys [d][kPanel], rows [d][kStrip]
template <Index R>
HWY_INLINE void score_keys(const float* HWY_RESTRICT keys, const float* HWY_RESTRICT rows, Index d,
                           Floats (&sums)[R][2]) {
#pragma GCC unroll 12
  for (Index r = 0; r < R; ++r) sums[r][0] = sums[r][1] = hn::Zero(FloatTag());
  for (Index k = 0; k < d; ++k) {
    const Floats row0 = load(rows + k * kStrip), row1 = load(rows + k * kStrip + kLanes);
#pragma GCC unroll 12
    for (Index r = 0; r < R; ++r) {
      const Floats key = splat(keys[k * kPanel + r]);
      sums[r][0] = hn::MulAdd(key, row0, sums[r][0]);
      sums[r][1] = hn::MulAdd(key, row1, sums[r][1]);
    }
  }
}

// The queries of a chunk, kStrip to a strip. Lanes beyond them are zero rows at position -1, in no bucket.
struct Queries {
  float* transposed;                // [strips][d][kStrip], times scale
  std::int32_t *position, *bucket;  // [lanes]
  std::int32_t *first, *last;       // [strips], of the rows that exist
  Queries(Carver& carver, const Extent& e) {
    transposed = carver.floats(e.lanes() * e.d);
    position = carver.ints(e.lanes()), bucket = carver.ints(e.lanes());
    first = carver.ints(e.strips()), last = carver.ints(e.strips());
  }
};

// own: the chunk as keys. lane_rows: lane panels of e.lanes() rows, left as the rows times scale.
inline void pack_queries(const LshCall& call, const Extent& e, Index head, const KeyBlock& own, float* lane_rows,
                         Queries& queries) {
  const LanePanels panels{e.d, e.lanes()};
  const Index strips = ceil_div(own.count, kStrip);
  for (Index r = 0; r < own.count; ++r) pack_row(call.qk.at(own.row[r], head), call.scale, panels, r, lane_rows);
  for (Index j = 0; j < panels.count(); ++j)
    std::fill(lane_rows + panels.offset(j) + own.count * panels.width(j),
              lane_rows + panels.offset(j) + strips * kStrip * panels.width(j), 0.0f);
  for (Index s = 0; s < strips; ++s) {
    transpose_strip(lane_rows, panels, s * kStrip, queries.transposed + s * e.d * kStrip);
    const Index begin = s * kStrip, end = std::min(begin + kStrip, own.count);
    for (Index lane = begin; lane < begin + kStrip; ++lane) {
      queries.position[lane] = lane < end ? own.position[lane] : -1;
      queries.bucket[lane] = call.same_bucket && lane < end ? own.bucket[lane] : -1;
    }
    const auto [low, high] = std::minmax_element(own.position + begin, own.position + end);
    queries.first[s] = *low, queries.last[s] = *high;
  }
}

// Which pairs of a strip and a panel count, and which are a token with itself.
class PairMask {
 public:
  PairMask(const LshCall& call, const Queries& queries, Index strip, const KeyBlock& keys, Index panel)
      : causal_(call.causal),
        same_bucket_(call.same_bucket),
        keys_(keys),
        first_(panel * kPanel),
        position_(queries.position + strip * kStrip),
        bucket_(queries.bucket + strip * kStrip) {}
  // Lanes of key r of the panel and vector 0 or 1 of the strip.
  HWY_INLINE hn::Mask<FloatTag> seen(Index r, Index vector) const {
    const IntTag tag;
    const Index key = first_ + r;
    if (key >= keys_.count) return hn::MaskFromVec(hn::Zero(FloatTag()));
    auto hidden = hn::Zero(tag);
    if (causal_)
      hidden = hn::VecFromMask(tag, hn::Gt(hn::Set(tag, keys_.position[key]), load_ints(position_ + vector * kLanes)));
    if (same_bucket_) {
      const auto equal = hn::Eq(hn::Set(tag, keys_.bucket[key]), load_ints(bucket_ + vector * kLanes));
      hidden = hn::Or(hidden, hn::Not(hn::VecFromMask(tag, equal)));
    }
    return hn::RebindMask(FloatTag(), hn::MaskFromVec(hn::Not(hidden)));
  }
  HWY_INLINE hn::Mask<FloatTag> self(Index r, Index vector) const {
    const IntTag tag;
    const std::int32_t key = first_ + r < keys_.count ? keys_.position[first_ + r] : -2;
    return hn::RebindMask(FloatTag(), hn::Eq(hn::Set(tag, key), load_ints(position_ + vector * kLanes)));
  }

 private:
  HWY_INLINE hn::Vec<IntTag> load_ints(const std::int32_t* from) const { return hn::LoadU(IntTag(), from); }
  bool causal_, same_bucket_;
  const KeyBlock& keys_;
  Index first_;
  const std::int32_t *position_, *bucket_;
};

// States of the panels of one key block against one strip. own: the block is the queries' own chunk.
inline void classify(const LshCall& call, const Queries& queries, const KeyBlock& own, Index strip,
                     const KeyBlock& keys, bool is_own, PanelStates& states) {
  const Index first_lane = strip * kStrip, end_lane = std::min(first_lane + kStrip, own.count);
  for (Index p = 0; p * kPanel < keys.count; ++p) {
    const Index first = p * kPanel, end = std::min(first + kPanel, keys.count);
    PanelState state = end - first == panel_rows(keys.count, p) ? PanelState::full : PanelState::partial;
    if (call.causal) {
      if (keys.first[p] > queries.last[strip]) {
        states[static_cast<std::size_t>(p)] = PanelState::dead;
        continue;
      }
      if (keys.last[p] >= queries.first[strip]) state = PanelState::partial;  // later keys, or a query itself
    } else if (is_own ? first < end_lane && first_lane < end : call.self_before) {
      state = PanelState::partial;
    }
    if (call.same_bucket) {  // buckets ascend within a chunk
      const std::int32_t lowest = keys.bucket[first], highest = keys.bucket[end - 1];
      if (lowest > own.bucket[end_lane - 1] || highest < own.bucket[first_lane]) {
        state = PanelState::dead;
      } else if (lowest != highest || own.bucket[first_lane] != own.bucket[end_lane - 1]) {
        state = PanelState::partial;
      }
    }
    states[static_cast<std::size_t>(p)] = state;
  }
}

// The consecutive keys that are in live panels.
inline std::span<const KeyRun> live_keys(const PanelStates& states, Index count, KeyRuns& runs) {
  std::size_t made = 0;
  for (Index p = 0; p * kPanel < count; ++p) {
    if (states[static_cast<std::size_t>(p)] == PanelState::dead) continue;
    const KeyRun run{p * kPanel, std::min(count, (p + 1) * kPanel)};
    if (made > 0 && runs[made - 1].end == run.begin) {
      runs[made - 1].end = run.end;
    } else {
      runs[made++] = run;
    }
  }
  return {runs.data(), made};
}

// Asks for rows that lie far apart. Always inlined, like its callers: GCC drops calls of functions that only prefetch.
template <class Float>
HWY_INLINE void prefetch_row(const Rows<Float>& from, Index head, Index row, Index d) {
  constexpr Index kLine = 16;
  const Float* first = from.at(row, head);
  for (Index c = 0; c < d; c += kLine) __builtin_prefetch(first + c, !std::is_const_v<Float>, 2);
}

// The rows that the next chunk of a stretch and this one's results need, asked for a few at a time, between panels:
// memory serves only so many requests at once.
class NextRows {
 public:
  // parts: how often advance() is called.
  NextRows(const LshCall& call, Index head, Index next, bool has_next, const KeyBlock& own, Index parts)
      : call_(call),
        head_(head),
        own_(own),
        parts_(parts),
        next_(has_next ? call.rows_of_chunk(head, next) : nullptr),
        count_(has_next ? call.chunk(next).places.size() : 0) {}
  HWY_INLINE void advance() {
    const bool backward = call_.dqk.data != nullptr;
    const Index d = call_.d, part = part_++;
    for (Index r = own_.count * part / parts_; r < own_.count * (part + 1) / parts_; ++r) {
      const Index row = own_.row[r];
      if (backward) {
        prefetch_row(call_.dqk, head_, row, d), prefetch_row(call_.dv, head_, row, d);
      } else {
        prefetch_row(call_.out, head_, row, d), prefetch_row(call_.lse, head_, row, 1);
      }
    }
    for (Index r = count_ * part / parts_; r < count_ * (part + 1) / parts_; ++r) {
      const Index row = next_[r];
      prefetch_row(call_.qk, head_, row, d), prefetch_row(call_.v, head_, row, d);
      if (!backward) continue;
      prefetch_row(call_.dout, head_, row, d), prefetch_row(call_.lse_in, head_, row, 1);
      prefetch_row(call_.delta, head_, row, 1);
    }
  }

 private:
  const LshCall& call_;
  Index head_;
  const KeyBlock& own_;
  Index parts_, part_ = 0;
  const std::int32_t* next_;
  Index count_;
};

// The chunks of a stretch with their keys: own() and before() swap roles from chunk to chunk.
class KeyStream {
 public:
  KeyStream(Carver& carver, const Extent& e, bool backward)
      : e_(e), blocks_{KeyBlock(carver, e, backward), KeyBlock(carver, e, backward)} {}
  // Packs what is not packed yet. Returns whether there is a chunk before.
  bool advance(const LshCall& call, Index head, Index c) {
    own_ = 1 - own_;
    const LshChunk& chunk = call.chunk(c);
    const std::int32_t* rows_before = call.rows_before(head, c);
    if (rows_before && !(packed_ == c - 1 && chunk.previous == c - 1))
      pack_keys(call, e_, head, rows_before, call.chunk(chunk.previous).places.size(), blocks_[1 - own_]);
    pack_keys(call, e_, head, call.rows_of_chunk(head, c), chunk.places.size(), blocks_[own_]);
    packed_ = c;
    return rows_before != nullptr;
  }
  KeyBlock& own() { return blocks_[own_]; }
  KeyBlock& before() { return blocks_[1 - own_]; }
  std::size_t own_index() const { return own_; }

 private:
  Extent e_;
  std::array<KeyBlock, 2> blocks_;
  std::size_t own_ = 0;
  Index packed_ = -2;  // the chunk that own() held last
};

}  // namespace HWY_NAMESPACE
}  // namespace plasmid::detail::lsh
HWY_AFTER_NAMESPACE();

#endif
