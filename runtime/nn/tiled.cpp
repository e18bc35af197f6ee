#include "runtime/nn/tiled.hpp"

#include <algorithm>

#include "runtime/nn/saved.hpp"
#include "runtime/nn/token_tile.hpp"

namespace plasmid {
namespace {

struct Tiles final : Saved {
  RecycledVector<SavedPtr> tiles;
  ~Tiles() override {
    while (!tiles.empty()) tiles.pop_back();  // the stack is given back from its top
  }
};

template <class AnyView>
RecycledVector<AnyView> part_of(std::span<const AnyView> whole, Range rows) {
  RecycledVector<AnyView> part;
  for (const AnyView& view : whole) part.push_back(view.slice(0, rows.begin, rows.end));
  return part;
}

// One at least: a rank without tokens announces the same parameters in the same order as its peers.
Index tiles_of(Index tokens, Index tile) { return std::max<Index>(1, ceil_div(tokens, tile)); }

}  // namespace

Tiled::Tiled(std::unique_ptr<Module> inner, Index tile) : inner_(std::move(inner)), tile_(tile) {
  PLASMID_CHECK(tile > 0) << "a tile of " << tile << " tokens";
}

Cost Tiled::cost(std::span<const TensorSpec> in, Keep keep) const {
  const Index tokens = in[0].shape[0];
  const auto cost_of = [&](Index rows) {
    std::vector<TensorSpec> part(in.begin(), in.end());
    for (TensorSpec& spec : part) spec.shape.dim[0] = rows;
    return inner_->cost(part, keep);
  };
  const Index whole = tokens / tile_, rest = tokens % tile_;
  const Cost tile = whole > 0 ? cost_of(tile_) : Cost{}, tail = rest > 0 ? cost_of(rest) : Cost{};
  const auto count = static_cast<double>(whole);
  return {.flops = count * tile.flops + tail.flops,
          .wire_bytes = count * tile.wire_bytes + tail.wire_bytes,
          .saved = whole * tile.saved + tail.saved,
          .scratch = std::max(tile.scratch, tail.scratch),
          .peak = std::max(std::max<Index>(0, whole - 1) * tile.saved + tile.together(),
                           whole * tile.saved + tail.together())};
}

SavedPtr Tiled::forward(Context& context, Keep keep, std::span<const ConstView> x, std::span<const View> y,
                        const Saved* replay) {
  const auto* earlier = replayed<Tiles>(replay);
  auto saved = std::make_unique<Tiles>();
  const Index tokens = x[0].dim(0), tiles = tiles_of(tokens, tile_);
  for (Index tile = 0; tile < tiles; ++tile) {
    const Range rows{tile * tile_, std::min(tokens, (tile + 1) * tile_)};
    const Saved* past = earlier ? earlier->tiles[saved->tiles.size()].get() : nullptr;
    TokenTile here(context, rows);
    saved->tiles.push_back(inner_->forward(here.context, keep, part_of(x, rows), part_of(y, rows), past));
  }
  return saved;
}

void Tiled::backward(Context& context, SavedPtr saved, std::span<const ConstView> x, std::span<const ConstView> dy,
                     std::span<const Gradient> dx) {
  const auto own = claim<Tiles>(std::move(saved), "Tiled");
  for (Index tile = static_cast<Index>(own->tiles.size()); tile-- > 0;) {
    const Range rows{tile * tile_, std::min(x[0].dim(0), (tile + 1) * tile_)};
    RecycledVector<Gradient> part(dx.begin(), dx.end());
    for (Gradient& gradient : part)
      if (gradient.write != Write::skip) gradient.view = gradient.view.slice(0, rows.begin, rows.end);
    TokenTile here(context, rows);
    if (tile > 0) here.context.gradients = nullptr;  // one use, one `ready`: that of the last tile worked on
    inner_->backward(here.context, std::move(own->tiles.back()), part_of(x, rows), part_of(dy, rows), part);
    own->tiles.pop_back();
  }
}

}  // namespace plasmid
