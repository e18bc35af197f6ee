// Schedules stretches of chunks over the OpenMP team; host_forward.cpp and host_backward.cpp compute them.
#include "attention/lsh/host.hpp"

#include <omp.h>

#include <algorithm>
#include <atomic>

#include "runtime/base/check.hpp"
#include "runtime/device/parallel_for.hpp"

namespace plasmid::detail {

const LshHalo* LshCall::halo(Index c) const {
  const auto found = std::ranges::lower_bound(halos, c, {}, &LshHalo::chunk);
  return found != halos.end() && found->chunk == c ? &*found : nullptr;
}

const std::int32_t* LshCall::rows_before(Index head, Index c) const {
  const LshChunk& at = chunk(c);
  if (at.previous < 0) return nullptr;
  if (!halos.empty())
    if (const LshHalo* found = halo(c)) return halo_rows + head * halo_step + found->first;
  if (at.wraps && self_before) return nullptr;  // of another round, whose keys are no candidates
  return rows_of_chunk(head, at.previous);
}

Index LshSplits::find(Index chunk, bool wrap) const {
  const auto key = std::pair(wrap, static_cast<std::int32_t>(chunk));
  const auto key_of = [](const LshSplit& split) { return std::pair(split.wrap, split.chunk); };
  const auto found = std::ranges::lower_bound(list, key, {}, key_of);
  return found != list.end() && key_of(*found) == key ? found - list.begin() : -1;
}

namespace {

constexpr Index kShortestStretch = 8;  // chunks; packing the one before costs a fraction of one more

Index threads_available() { return omp_in_parallel() ? 1 : omp_get_max_threads(); }

struct Cut {
  Index threads = 0, stretches = 0;  // of a head
  Cut(Index heads, Index chunks) {
    const Index available = threads_available();
    stretches = available == 1 ? 1 : ceil_div(4 * available, std::max<Index>(heads, 1));
    stretches = std::clamp<Index>(stretches, 1, std::max<Index>(1, chunks / kShortestStretch));
    threads = std::clamp<Index>(available, 1, std::max<Index>(1, heads * stretches));
  }
  Range stretch(Range own, Index i) const {
    return {own.begin + own.size() * i / stretches, own.begin + own.size() * (i + 1) / stretches};
  }
  Index stretch_of(Range own, Index c) const {
    Index i = (c - own.begin) * stretches / own.size();
    while (c >= stretch(own, i).end) ++i;
    return i;
  }
};

// body(item, thread) for each item, whichever thread is free: results do not depend on who works.
template <class Body>
void for_each_item(Index items, Index threads, const Body& body) {
  std::atomic<Index> next{0};
  parallel_team(threads, [&](Index thread, Index) {
    for (Index i; (i = next.fetch_add(1)) < items;) body(i, thread);
  });
}

std::vector<LshSplit> plan_splits(const LshCall& call, const Cut& cut) {
  std::vector<LshSplit> splits;
  for (Index i = 0; i < cut.stretches; ++i) {
    const Range stretch = cut.stretch(call.own, i);
    for (Index c = stretch.begin; c < stretch.end; ++c) {
      const Index next = call.chunk(c).next;
      if (next < call.own.begin || next >= call.own.end) continue;  // none, or somebody else's
      const bool wraps = call.chunk(next).wraps;
      if (wraps && (call.halo(next) || call.self_before)) continue;
      if (wraps ? cut.stretch_of(call.own, next) != i : c + 1 == stretch.end)
        splits.push_back({static_cast<std::int32_t>(c), false});
    }
  }
  for (const LshHalo& halo : call.halos)
    if (!halo.other_rows) splits.push_back({call.chunk(halo.chunk).previous, true});
  return splits;
}

void check_call(const LshCall& call, Index chunk) {
  PLASMID_CHECK(0 < chunk && chunk <= kMaxLshChunk) << "chunks of " << chunk << " tokens";
  PLASMID_CHECK(call.d > 0) << "heads without channels";
}

}  // namespace

void lsh_host_forward(const LshCall& call, Index chunk, Arena& arena) {
  check_call(call, chunk);
  if (call.own.size() == 0 || call.heads == 0) return;
  const Cut cut(call.heads, call.own.size());
  const Index floats = lsh_forward_scratch_floats(chunk, call.d);
  const Buffer memory = arena.take({{cut.threads, floats}}, "scratch.lsh");
  float* scratch = memory.view().ptr<float>();
  for_each_item(call.heads * cut.stretches, cut.threads, [&](Index item, Index thread) {
    lsh_forward_stretch(call, item / cut.stretches, cut.stretch(call.own, item % cut.stretches), chunk,
                        scratch + thread * floats);
  });
}

void lsh_host_backward(const LshCall& call, Index chunk, Arena& arena) {
  check_call(call, chunk);
  if (call.own.size() == 0 || call.heads == 0) return;
  const Cut cut(call.heads, call.own.size());
  const std::vector<LshSplit> list = plan_splits(call, cut);
  const Index floats = lsh_backward_scratch_floats(chunk, call.d);
  const Buffer memory = arena.take({{cut.threads, floats}}, "scratch.lsh");
  LshSplits splits{list, nullptr, 2 * chunk * call.d};
  const Buffer parts = arena.take({{call.heads, std::ssize(list), 2, splits.part}}, "scratch.lsh");
  splits.parts = parts.view().ptr<float>();
  float* scratch = memory.view().ptr<float>();
  for_each_item(call.heads * cut.stretches, cut.threads, [&](Index item, Index thread) {
    lsh_backward_stretch(call, splits, item / cut.stretches, cut.stretch(call.own, item % cut.stretches), chunk,
                         scratch + thread * floats);
  });
  // Chunks split between stretches first, then what came through halos.
  const Index wraps = std::ranges::count_if(list, &LshSplit::wrap), plain = std::ssize(list) - wraps;
  for (const Range part : {Range{0, plain}, Range{plain, std::ssize(list)}})
    if (part.size() > 0)
      for_each_item(call.heads * part.size(), cut.threads, [&](Index item, Index) {
        lsh_add_split(call, splits, item / part.size(), part.begin + item % part.size(), chunk);
      });
}

Index lsh_host_scratch_bytes(Index heads, Index d, Index chunk, Index chunks, Index own_halos) {
  const Cut cut(heads, chunks);
  // A stretch shares its last chunk, and at most one document reaches into it from each side.
  const Index splits = 2 * (cut.stretches - 1) + own_halos;
  const Index forward = arena_bytes({{cut.threads, lsh_forward_scratch_floats(chunk, d)}});
  const Index backward = arena_bytes({{cut.threads, lsh_backward_scratch_floats(chunk, d)}}) +
                         arena_bytes({{heads, splits, 2, 2 * chunk * d}});
  return std::max(forward, backward);
}

}  // namespace plasmid::detail
