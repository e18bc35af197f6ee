#pragma once
// How the host kernels cut the work: what is shared by the scheduler (host.cpp) and the code of each instruction set
// (host_forward.cpp, host_backward.cpp).
//
// The rows of one key/value head are its queries times the query heads of its group, a query's heads side by side, so
// that keys are read once for the whole group and every head of a query has the same mask. Rows are cut into blocks
// (the unit of scheduling), a block into strips of W rows, W = two SIMD vectors; keys into tiles of kTileKeys from key
// 0, whoever asks, and a tile into panels of R keys. Scores exist as R x W register blocks, keys down, rows across.
#include <array>
#include <cstdint>
#include <span>

#include "attention/kernel/operands.hpp"

namespace plasmid::detail {

inline constexpr Index kTileKeys = 96;
inline constexpr Index kMaxBlockRows = 768, kMinStrip = 8, kMinPanel = 6;
inline constexpr Index kMaxStrips = kMaxBlockRows / kMinStrip, kMaxPanels = kTileKeys / kMinPanel;

struct RegisterBlock {  // of the instruction set in use
  Index panel = 0, strip = 0;
};
RegisterBlock register_block();

struct KeyStretch {  // of keys that are neighbours in the line
  Index first = 0;   // local number of the first; the next stretch's is its end
  Index token = 0;   // of the first
};

struct HostCall {  // one forward or backward; what the other needs is empty
  Extents extent;
  Index block_rows = 0;  // rows of a block at most, a multiple of every strip width
  float scale = 1;
  StoredRows q, k, v;
  ConstRows lse_in, delta, dout;
  MutableRows out, lse, dq, dk, dv;
  const MaskPlan* mask = nullptr;
  std::span<const std::int32_t> tile_row_begin;  // where each query tile's entries begin in mask->tiles, and their end
  const AttentionDropout* dropout = nullptr;
  std::span<const KeyStretch> key_stretches;  // with dropout: all keys, and one more entry at their end

  Index row_query(Index row) const { return row / extent.group(); }
  Index row_head(Index kv_head, Index row) const { return kv_head * extent.group() + row % extent.group(); }
};

struct RowBlock {
  Index kv_head = 0;
  Range rows;
  Range tiles;  // of keys that some row may see
};

// What happens between tiles, on the thread that computes the block.
class Progress {
 public:
  virtual bool proceed() = 0;                   // false: stop, the result no longer matters
  virtual bool await_turn(Index key_tile) = 0;  // until the blocks before this one have added to dK, dV of the tile
  virtual void pass_turn(Index key_tile) = 0;

 protected:
  ~Progress() = default;
};

enum class PanelState : std::uint8_t { dead, partial, full };

// Spans of one strip's rows, and what they have in common. Rows beyond the block repeat the last one.
struct StripMask {
  std::int32_t *begin = nullptr, *end = nullptr;                       // [W]
  std::int32_t first = 0, last = 0, common_begin = 0, common_end = 0;  // union [first, last), intersection
};

// The mask of one block against one key tile, panel by panel.
struct TileMask {
  std::array<std::array<PanelState, kMaxPanels>, kMaxStrips> state;
  bool live = false;  // some panel is not dead
};

StripMask make_strip_mask(const HostCall&, const RowBlock&, Index strip, Index width, std::int32_t* begin,
                          std::int32_t* end);
void classify_tile(const HostCall&, const RowBlock&, std::span<const StripMask>, RegisterBlock, Index key_tile,
                   TileMask&);
// live [panel][strip width]: all bits set where the tile list admits the pair. Returns how many it admits.
Index fill_live(const HostCall&, const RowBlock&, Index strip, RegisterBlock, Index first_key, std::int32_t* live);

// With dropout: of each row, the mask's row number. Rows beyond the block repeat the last one.
void number_rows(const HostCall&, const RowBlock&, Index rows, std::uint64_t* numbers);

// Hands out parts of one scratch allocation, on 64-byte lines; with no memory it only counts.
class Carver {
 public:
  explicit Carver(float* memory) : memory_(memory) {}
  float* floats(Index n) {
    float* part = memory_ ? memory_ + used_ : nullptr;
    used_ += round_up(n, 16);
    return part;
  }
  std::int32_t* ints(Index n) { return reinterpret_cast<std::int32_t*>(floats(n)); }
  std::uint64_t* longs(Index n) { return reinterpret_cast<std::uint64_t*>(floats(2 * n)); }
  Index used() const { return used_; }

 private:
  float* memory_;
  Index used_ = 0;
};

// Scratch of one thread that computes blocks of at most `block_rows` rows.
Index forward_scratch_floats(const Extents&, Index block_rows);
Index backward_scratch_floats(const Extents&, Index block_rows);
void forward_block(const HostCall&, const RowBlock&, float* scratch, Progress&);
void backward_block(const HostCall&, const RowBlock&, float* scratch, Progress&);

// e^x for x <= 0 as the kernels compute it: exact at 0, zero below -87.7, relative error at most 1.2 * 2^-24 + 3e-9
// |x|.
void exp_of_nonpositive(std::span<const float> x, std::span<float> y);

}  // namespace plasmid::detail
