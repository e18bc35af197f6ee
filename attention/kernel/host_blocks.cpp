#include "attention/kernel/host_blocks.hpp"

#include <algorithm>
#include <limits>

namespace plasmid::detail {
namespace {

bool any_tile(const HostCall& call, Index query_tile, Index key_tile) {
  const auto row = static_cast<std::size_t>(query_tile);
  if (row + 1 >= call.tile_row_begin.size()) return false;
  const auto begin = call.mask->tiles.begin();
  const auto wanted = static_cast<std::int32_t>(key_tile);
  const auto last = begin + call.tile_row_begin[row + 1];
  const auto found = std::lower_bound(begin + call.tile_row_begin[row], last, wanted,
                                      [](Tile tile, std::int32_t key) { return tile.key < key; });
  return found != last && found->key == wanted;
}

struct Validity {
  bool some, all;
};

Validity validity(const HostCall& call, Index first_key, Index end_key) {
  if (call.mask->key_valid.empty()) return {true, true};
  Index count = 0;
  for (Index j = first_key; j < end_key; ++j) count += call.mask->key_valid[static_cast<std::size_t>(j)] != 0;
  return {count > 0, count == end_key - first_key};
}

}  // namespace

StripMask make_strip_mask(const HostCall& call, const RowBlock& block, Index strip, Index width, std::int32_t* begin,
                          std::int32_t* end) {
  StripMask mask{begin, end, std::numeric_limits<std::int32_t>::max(), 0, 0, std::numeric_limits<std::int32_t>::max()};
  for (Index lane = 0; lane < width; ++lane) {
    const Index row = std::min(block.rows.begin + strip * width + lane, block.rows.end - 1);
    KeySpan span = call.mask->rows[static_cast<std::size_t>(call.row_query(row))];
    if (span.begin >= span.end) span = {std::numeric_limits<std::int32_t>::max(), 0};  // in no union, never in common
    begin[lane] = span.begin, end[lane] = span.end;
    mask.first = std::min(mask.first, span.begin), mask.last = std::max(mask.last, span.end);
    mask.common_begin = std::max(mask.common_begin, span.begin), mask.common_end = std::min(mask.common_end, span.end);
  }
  return mask;
}

Index fill_live(const HostCall& call, const RowBlock& block, Index strip, RegisterBlock shape, Index first_key,
                std::int32_t* live) {
  const Index tile = call.mask->tile;
  Index admitted = 0;
  for (Index r = 0; r < shape.panel; ++r) {
    std::int32_t* row = live + r * shape.strip;
    if (r > 0 && (first_key + r) % tile != 0) {
      std::copy_n(row - shape.strip, shape.strip, row);
    } else {
      Index known = -1;
      bool answer = false;
      for (Index lane = 0; lane < shape.strip; ++lane) {
        const Index index = std::min(block.rows.begin + strip * shape.strip + lane, block.rows.end - 1);
        const Index query_tile = call.row_query(index) / tile;
        if (query_tile != known) answer = any_tile(call, known = query_tile, (first_key + r) / tile);
        row[lane] = answer ? -1 : 0;
      }
    }
    admitted += shape.strip - std::count(row, row + shape.strip, 0);
  }
  return admitted;
}

void classify_tile(const HostCall& call, const RowBlock& block, std::span<const StripMask> strips, RegisterBlock shape,
                   Index key_tile, TileMask& mask) {
  const Index keys = call.extent.keys, panels = kTileKeys / shape.panel;
  std::array<std::int32_t, 12 * 64> live;
  mask.live = false;
  for (Index p = 0; p < panels; ++p) {
    const Index first = key_tile * kTileKeys + p * shape.panel, end = first + shape.panel;
    const Validity valid = first < keys ? validity(call, first, std::min(end, keys)) : Validity{false, false};
    for (std::size_t s = 0; s < strips.size(); ++s) {
      const StripMask& strip = strips[s];
      PanelState& state = mask.state[s][static_cast<std::size_t>(p)];
      state = PanelState::dead;
      if (!valid.some || first >= strip.last || end <= strip.first) continue;
      bool full = valid.all && strip.common_begin <= first && end <= strip.common_end;
      if (call.mask->tile > 0) {
        const Index admitted = fill_live(call, block, static_cast<Index>(s), shape, first, live.data());
        if (admitted == 0) continue;
        full = full && admitted == shape.panel * shape.strip;
      }
      state = full ? PanelState::full : PanelState::partial;
      mask.live = true;
    }
  }
}

void number_rows(const HostCall& call, const RowBlock& block, Index rows, std::uint64_t* numbers) {
  const AttentionDropout& dropout = *call.dropout;
  auto range = dropout.queries.begin();
  Index first = 0;  // query at the range's begin
  for (Index r = 0; r < rows; ++r) {
    const Index row = std::min(block.rows.begin + r, block.rows.end - 1), query = call.row_query(row);
    for (; query >= first + range->size(); ++range) first += range->size();
    numbers[r] = AttentionDropout::row(dropout.first + range->begin + query - first,
                                       dropout.first_head + call.row_head(block.kv_head, row));
  }
}

}  // namespace plasmid::detail
