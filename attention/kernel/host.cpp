// Schedules blocks of rows over the OpenMP team; host_forward.cpp and host_backward.cpp compute them.
#include <hwy/cache_control.h>
#include <omp.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "attention/kernel/host_blocks.hpp"
#include "runtime/base/check.hpp"
#include "runtime/device/parallel_for.hpp"

namespace plasmid {
namespace {

using namespace detail;

// Key tiles that the rows may see; {0, 0} when none.
Range live_tiles(const HostCall& call, Range rows) {
  Index first = call.extent.keys, last = 0;
  for (Index query = call.row_query(rows.begin); query <= call.row_query(rows.end - 1); ++query) {
    const KeySpan span = call.mask->rows[static_cast<std::size_t>(query)];
    if (span.begin >= span.end) continue;
    first = std::min<Index>(first, span.begin), last = std::max<Index>(last, span.end);
  }
  return first < last ? Range{first / kTileKeys, ceil_div(last, kTileKeys)} : Range{0, 0};
}

// Blocks from the costliest on, so that the last ones to be taken are short. As many heads at a time as there are
// threads: neighbours in the order then seldom add to the same dK and dV, and what is at work stays in the caches.
void plan_blocks(const HostCall& call, Index threads, std::vector<RowBlock>& parts, std::vector<RowBlock>& blocks) {
  parts.clear(), blocks.clear();
  const Index rows = call.extent.queries * call.extent.group(), heads = call.extent.kv_heads;
  for (Index begin = 0; begin < rows; begin += call.block_rows) {
    const Range part{begin, std::min(rows, begin + call.block_rows)}, tiles = live_tiles(call, part);
    if (tiles.size() > 0) parts.push_back({0, part, tiles});
  }
  std::ranges::sort(parts, {}, [](const RowBlock& block) {
    return std::pair(-block.tiles.size() * block.rows.size(), block.rows.begin);
  });
  for (Index first = 0, last = 0; first < heads; first = last) {
    last = heads - first < 2 * threads ? heads : first + threads;
    for (const RowBlock& part : parts)
      for (Index kv = first; kv < last; ++kv) blocks.push_back({kv, part.rows, part.tiles});
  }
}

// State shared by the team in one call.
struct Team {
  const std::vector<RowBlock>* blocks = nullptr;
  const std::function<void()>* poll = nullptr;
  std::int32_t* turns = nullptr;  // [kv_heads][key tiles]: blocks that have added to the tile
  Index key_tiles = 0;
  std::atomic<Index> next{0};
  std::atomic<bool> stop{false};
  std::atomic<int> finished{0};  // threads that found no further block
  std::exception_ptr failure;    // of poll, hence of thread 0
};

class Worker final : public Progress {
 public:
  Worker(Team& team, bool main) : team_(team), main_(main) {}
  void start(Index block) { block_ = block; }

  bool proceed() override {
    if (main_ && *team_.poll) {
      try {
        (*team_.poll)();
      } catch (...) {
        team_.failure = std::current_exception();
        team_.stop.store(true, std::memory_order_relaxed);
      }
    }
    return !team_.stop.load(std::memory_order_relaxed);
  }

  bool await_turn(Index key_tile) override {
    const RowBlock& mine = (*team_.blocks)[static_cast<std::size_t>(block_)];
    std::int32_t before = 0;
    for (Index i = 0; i < block_; ++i) {
      const RowBlock& other = (*team_.blocks)[static_cast<std::size_t>(i)];
      before += other.kv_head == mine.kv_head && other.tiles.begin <= key_tile && key_tile < other.tiles.end;
    }
    const std::atomic_ref<std::int32_t> turn = turn_of(mine.kv_head, key_tile);
    // Neighbours run a fraction of a tile apart: spin that long before the core is offered to others.
    for (int spins = 0; turn.load(std::memory_order_acquire) != before; ++spins) {
      if (spins < 4000) {
        hwy::Pause();
      } else {
        if (!proceed()) return false;
        std::this_thread::yield();
      }
    }
    return true;
  }

  void pass_turn(Index key_tile) override {
    const RowBlock& mine = (*team_.blocks)[static_cast<std::size_t>(block_)];
    turn_of(mine.kv_head, key_tile).fetch_add(1, std::memory_order_release);
  }

 private:
  std::atomic_ref<std::int32_t> turn_of(Index kv_head, Index key_tile) const {
    return std::atomic_ref<std::int32_t>(team_.turns[kv_head * team_.key_tiles + key_tile]);
  }

  Team& team_;
  bool main_;
  Index block_ = 0;
};

class HostKernel final : public AttentionKernel {
 public:
  void forward(const Attend& attend, View out, View lse, Arena& arena) override {
    const Extents e = check_forward(attend, out, lse);
    HostCall call = open_call(attend, e);
    call.out = rows_of(out), call.lse = rows_of(lse);
    run(call, cut_forward(e), attend.poll, forward_block, arena);
  }

  void backward(const Attend& attend, ConstView lse, ConstView delta, ConstView dout, View dq, View dk, View dv,
                Arena& arena) override {
    const Extents e = check_backward(attend, lse, delta, dout, dq, dk, dv);
    HostCall call = open_call(attend, e);
    call.lse_in = rows_of(lse), call.delta = rows_of(delta), call.dout = rows_of(dout);
    call.dq = rows_of(dq), call.dk = rows_of(dk), call.dv = rows_of(dv);
    run(call, cut_backward(e), attend.poll, backward_block, arena);
  }

  Index scratch_bytes(Index queries, Index keys, Index heads, Index kv_heads, Index d) const override {
    const Extents e{queries, keys, heads, kv_heads, d};
    if (queries == 0 || keys == 0) return 0;
    return std::max(cut_forward(e).bytes(), cut_backward(e).bytes());
  }

 private:
  // Keys are fetched once a block: a block is as large as the second-level cache holds (two tensors of [rows, d] in
  // forward, five in backward), unless a team would then have too few to share.
  static constexpr Index kCachedFloats = 196608;
  struct Cut {
    Index block_rows = 0, threads = 0, thread_floats = 0, turns = 0;
    TensorSpec memory_spec() const { return {{threads, thread_floats}}; }
    TensorSpec turns_spec() const { return {{turns}, DType::i32}; }
    Index bytes() const { return arena_bytes(memory_spec()) + arena_bytes(turns_spec()); }
  };

  static Index available_threads() { return omp_in_parallel() ? 1 : omp_get_max_threads(); }

  static Cut cut(const Extents& e, Index cached_floats, Index blocks) {
    const Index rows = e.queries * e.group(), granule = 96;
    const Index cached = cached_floats / std::max<Index>(e.d, 1) / granule * granule;
    const Index shared = round_up(ceil_div(rows * e.kv_heads, blocks), granule);
    Cut cut;
    cut.block_rows = std::clamp(std::min(cached, shared), granule, kMaxBlockRows);
    cut.threads =
        std::clamp<Index>(available_threads(), 1, std::max<Index>(1, ceil_div(rows, cut.block_rows) * e.kv_heads));
    return cut;
  }

  // Rows' bits do not depend on the blocks, so that these may follow the team: four a thread.
  static Cut cut_forward(const Extents& e) {
    Cut result = cut(e, kCachedFloats / 2, 4 * available_threads());
    result.thread_floats = forward_scratch_floats(e, result.block_rows);
    return result;
  }
  // Sums of dK and dV go block by block: the blocks are the same for every team.
  static Cut cut_backward(const Extents& e) {
    Cut result = cut(e, kCachedFloats / 4, 8);
    result.thread_floats = backward_scratch_floats(e, result.block_rows);
    result.turns = e.kv_heads * ceil_div(e.keys, kTileKeys);
    return result;
  }

  HostCall open_call(const Attend& attend, const Extents& e) {
    HostCall call;
    call.extent = e, call.scale = attend.scale, call.mask = &attend.mask;
    call.q = stored_rows_of(attend.q), call.k = stored_rows_of(attend.k), call.v = stored_rows_of(attend.v);
    tile_row_begin_.clear();
    if (attend.mask.tile > 0) {
      const auto& tiles = attend.mask.tiles;
      PLASMID_CHECK(std::ranges::is_sorted(tiles, {}, [](Tile t) { return std::pair(t.query, t.key); }));
      for (std::int32_t row = 0; row <= ceil_div(e.queries, attend.mask.tile); ++row)
        tile_row_begin_.push_back(
            static_cast<std::int32_t>(std::ranges::lower_bound(tiles, row, {}, &Tile::query) - tiles.begin()));
    }
    call.tile_row_begin = tile_row_begin_;
    if (attend.dropout && attend.dropout->mask) number_keys(call, *attend.dropout);
    return call;
  }

  void number_keys(HostCall& call, const AttentionDropout& dropout) {
    key_stretches_.clear();
    Index first = 0;
    for (const Range range : dropout.keys) {
      if (range.size() == 0) continue;
      key_stretches_.push_back({first, dropout.first + range.begin});
      first += range.size();
    }
    key_stretches_.push_back({first, 0});
    call.dropout = &dropout, call.key_stretches = key_stretches_;
  }

  template <class Block>
  void run(HostCall& call, const Cut& cut, const std::function<void()>& poll, Block block, Arena& arena) {
    call.block_rows = cut.block_rows;
    plan_blocks(call, cut.threads, parts_, blocks_);
    if (blocks_.empty() || (call.mask->tile > 0 && call.mask->tiles.empty())) return;
    const Buffer memory = arena.take(cut.memory_spec(), "scratch.attention");
    const Buffer turns = arena.take(cut.turns_spec(), "scratch.attention");
    Team team;
    team.blocks = &blocks_, team.poll = &poll;
    team.turns = turns.view().ptr<std::int32_t>(), team.key_tiles = ceil_div(call.extent.keys, kTileKeys);
    std::fill_n(team.turns, cut.turns, 0);
    float* scratch = memory.view().ptr<float>();
    parallel_team(cut.threads, [&](Index thread, Index size) {
      Worker worker(team, thread == 0);
      // Taken in order, and a block waits for earlier ones only: whoever waits, the first of them runs.
      for (Index i; (i = team.next.fetch_add(1)) < static_cast<Index>(blocks_.size()) && !team.stop;) {
        worker.start(i);
        block(call, blocks_[static_cast<std::size_t>(i)], scratch + thread * cut.thread_floats, worker);
      }
      team.finished.fetch_add(1);
      // Transfers move while the others end their last blocks.
      while (thread == 0 && poll && team.finished < size && worker.proceed()) std::this_thread::yield();
    });
    if (team.failure) std::rethrow_exception(team.failure);
  }

  std::vector<RowBlock> parts_, blocks_;  // kept, so that later calls allocate nothing
  std::vector<std::int32_t> tile_row_begin_;
  std::vector<KeyStretch> key_stretches_;
};

}  // namespace

std::unique_ptr<AttentionKernel> make_host_kernel() { return std::make_unique<HostKernel>(); }

}  // namespace plasmid
