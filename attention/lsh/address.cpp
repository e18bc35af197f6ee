#include "attention/lsh/address.hpp"

#include <algorithm>
#include <numeric>

#include "attention/lsh/pass.hpp"
#include "runtime/base/check.hpp"

namespace plasmid::detail {

static_assert(sizeof(LshRow) == 5 * sizeof(std::int32_t));

LshHalos::LshHalos(const LshPlan& plan, const LshOptions& options)
    : first(plan.chunks.size(), -1), places(static_cast<std::size_t>(plan.ranks), 0) {
  for (std::size_t c = 0; c < plan.chunks.size(); ++c) {
    const LshChunk& chunk = plan.chunks[c];
    if (chunk.previous < 0) continue;
    const int holder = plan.chunk_rank[c];
    const bool back = chunk.wraps && looks_back(options);
    if (back ? !sees_round_before(options) : plan.chunk_rank[static_cast<std::size_t>(chunk.previous)] == holder)
      continue;
    Index& used = places[static_cast<std::size_t>(holder)];
    first[c] = static_cast<std::int32_t>(used);
    if (holder == plan.rank) own.push_back({static_cast<std::int32_t>(c), used, true});
    used += plan.chunk(chunk.previous).places.size();
  }
}

namespace {

class Addresses {
 public:
  Addresses(const LshPlan& plan, const LshOptions& options, const LshHalos& halos, Index heads)
      : plan_(plan),
        halos_(halos),
        back_(looks_back(options)),
        heads_(heads),
        chunk_(static_cast<std::uint32_t>(options.chunk)) {
    for (int r = 0; r < plan.ranks; ++r) own_.push_back(plan.own_places(r));
    tokens_ = plan.pieces.empty() ? 0 : plan.pieces.back().local.end;
  }

  // row(holder, row, halo's holder or -1, halo row) for each token and head
  template <class Row>
  void for_each_row(const std::int32_t* places, const Row& row) const {
    for_each(places, [&](const LshPiece&, LshRow made, Index c, std::int32_t place) {
      const int holder = plan_.chunk_rank[static_cast<std::size_t>(c)];
      const Range& own = own_[static_cast<std::size_t>(holder)];
      made.slot = static_cast<std::int32_t>(made.head * own.size() + place - own.begin);
      const Index next = plan_.chunk(c).next;
      const bool leaves = next >= 0 && !(back_ && plan_.chunk(next).wraps) && first(next) >= 0;
      row(holder, made, leaves ? halo_of(made, c, place) : LshRow{}, leaves ? holder_of(next) : -1);
    });
  }
  // halo(holder, halo row) for each token of a document's last chunk, and head
  template <class Halo>
  void for_each_wrap(const std::int32_t* places, const Halo& halo) const {
    for_each(places, [&](const LshPiece&, LshRow made, Index c, std::int32_t place) {
      const Index next = plan_.chunk(c).next;
      if (next >= 0 && plan_.chunk(next).wraps && first(next) >= 0) halo(holder_of(next), halo_of(made, c, place));
    });
  }

 private:
  Index first(Index c) const { return halos_.first[static_cast<std::size_t>(c)]; }
  int holder_of(Index c) const { return plan_.chunk_rank[static_cast<std::size_t>(c)]; }
  LshRow halo_of(LshRow row, Index c, std::int32_t place) const {
    const Index next = plan_.chunk(c).next, all = halos_.places[static_cast<std::size_t>(holder_of(next))];
    row.slot = static_cast<std::int32_t>(row.head * all + first(next) + place - plan_.chunk(c).places.begin);
    return row;
  }
  template <class Body>
  void for_each(const std::int32_t* places, const Body& body) const {
    for (Index h = 0; h < heads_; ++h)
      for (const LshPiece& piece : plan_.pieces) {
        const Index begin = plan_.document_begin(piece.document);
        const Index chunk = plan_.first_chunk[static_cast<std::size_t>(piece.document)];
        for (Index t = piece.local.begin; t < piece.local.end; ++t) {
          const std::int32_t place = places[h * tokens_ + t];
          const Index c = chunk + static_cast<std::uint32_t>(place - begin) / chunk_;
          const LshRow row{static_cast<std::int32_t>(t), static_cast<std::int32_t>(h),
                           static_cast<std::int32_t>(piece.line + t - piece.local.begin), 0, -1};
          body(piece, row, c, place);
        }
      }
  }

  const LshPlan& plan_;
  const LshHalos& halos_;
  bool back_;
  Index heads_, tokens_;
  std::uint32_t chunk_;
  std::vector<Range> own_;
};

std::vector<Index> begins(const std::vector<Index>& counts) {
  std::vector<Index> begin(counts.size());
  std::exclusive_scan(counts.begin(), counts.end(), begin.begin(), Index{0});
  return begin;
}

}  // namespace

LshAddressed::LshAddressed(const LshPlan& plan, const LshOptions& options, const LshHalos& halos, Index heads,
                           const std::int32_t* places, const std::int32_t* before, Arena& scratch) {
  const Addresses addresses(plan, options, halos, heads);
  const auto ranks = static_cast<std::size_t>(plan.ranks);
  rows_to.assign(ranks, 0), halos_to.assign(ranks, 0);
  addresses.for_each_row(places, [&](int holder, const LshRow&, const LshRow&, int next) {
    ++rows_to[static_cast<std::size_t>(holder)];
    if (next >= 0) ++halos_to[static_cast<std::size_t>(next)];
  });
  if (before)
    addresses.for_each_wrap(before, [&](int holder, const LshRow&) { ++halos_to[static_cast<std::size_t>(holder)]; });
  row_words = scratch.take(lsh_row_words(std::reduce(rows_to.begin(), rows_to.end())), "scratch.lsh");
  halo_words = scratch.take(lsh_row_words(std::reduce(halos_to.begin(), halos_to.end())), "scratch.lsh");
  auto* row_list = reinterpret_cast<LshRow*>(row_words.view().data);
  auto* halo_list = reinterpret_cast<LshRow*>(halo_words.view().data);
  std::vector<Index> next_row = begins(rows_to), next_halo = begins(halos_to);
  addresses.for_each_row(places, [&](int holder, LshRow row, LshRow halo, int next) {
    if (next >= 0) {
      halo.pair = 0;
      row.pair = static_cast<std::int32_t>(next_halo[static_cast<std::size_t>(next)]);
      halo_list[next_halo[static_cast<std::size_t>(next)]++] = halo;
    }
    row_list[next_row[static_cast<std::size_t>(holder)]++] = row;
  });
  if (before)
    addresses.for_each_wrap(
        before, [&](int holder, LshRow halo) { halo_list[next_halo[static_cast<std::size_t>(holder)]++] = halo; });
}

}  // namespace plasmid::detail
