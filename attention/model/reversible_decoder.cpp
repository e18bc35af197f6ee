#include "attention/model/reversible_decoder.hpp"

#include <algorithm>
#include <cstring>
#include <deque>
#include <optional>

#include "runtime/nn/saved.hpp"
#include "runtime/nn/token_tile.hpp"
#include "runtime/ops/elementwise.hpp"

namespace plasmid {
namespace {

struct Plans {                  // of one batch
  std::vector<RingPlan> rings;  // of the groups
  std::optional<LshPlan> lsh;
};

struct Kept final : Saved {
  Plans plans;
  // In the order of taking.
  Buffer y1, y2;  // the streams' ends, q32 [tokens, width]
  SavedPtr stack;
  struct Tile {
    SavedPtr norm, head;
  };
  std::vector<Tile> tiles;
  ~Kept() override {
    while (!tiles.empty()) tiles.pop_back();  // the stack is given back from its top
  }
};

template <class AnyView>
AnyView part(AnyView view, Range rows) {
  return view.slice(0, rows.begin, rows.end);
}

class ReversibleDecoder final : public LanguageModel {
 public:
  ReversibleDecoder(const ModelShape& shape, ReversibleDecoderParts parts) : shape_(shape), parts_(std::move(parts)) {}

  const ModelShape& shape() const override { return shape_; }
  std::vector<TensorSpec> outputs(std::span<const TensorSpec> in) const override {
    const TensorSpec head_in[] = {{{in[0].shape[0], 2 * shape_.width}}, in[1]};
    return parts_.head->outputs(head_in);
  }
  Cost cost(std::span<const TensorSpec> in, Keep) const override;
  void parameters(const ParameterVisitor& visitor) override {
    parts_.embedding->parameters(visitor);
    parts_.stack.parameters(visitor);
    parts_.norm->parameters(visitor);
    parts_.head->parameters(visitor);
  }
  SavedPtr forward(Context&, Keep, std::span<const ConstView> x, std::span<const View> y, const Saved* replay) override;
  void backward(Context&, SavedPtr, std::span<const ConstView> x, std::span<const ConstView> dy,
                std::span<const Gradient> dx) override;
  void logits(Context&, ConstView tokens, View logits) override;

 private:
  // The groups' plans, theirs while this lives.
  class Passes {
   public:
    Passes(ReversibleDecoder& model, Context& context, Plans& plans) {
      const auto& groups = model.parts_.groups;
      if (plans.rings.empty())
        for (const auto& group : groups) plans.rings.push_back(group->ring->plan(context.tokens));
      // The map is equal to that of the plan's making, if not the same object.
      for (std::size_t i = 0; i < groups.size(); ++i) {
        plans.rings[i].map = &context.tokens;
        passes_.emplace_back(*groups[i], plans.rings[i]);
      }
      if (!model.parts_.lsh) return;
      if (!plans.lsh) plans.lsh.emplace(model.parts_.lsh->attention.plan(context.tokens));
      plans.lsh->map = &context.tokens;
      lsh_.emplace(*model.parts_.lsh, *plans.lsh);
    }

   private:
    std::deque<AttentionPass> passes_;
    std::optional<LshPass> lsh_;
  };

  void embed(Context&, ConstView tokens, View x1, View x2);
  // Both streams' rows side by side.
  Buffer joined(Context&, ConstView y1, ConstView y2, Range rows) const;

  ModelShape shape_;
  ReversibleDecoderParts parts_;
};

Cost ReversibleDecoder::cost(std::span<const TensorSpec> in, Keep keep) const {
  const Index tokens = in[0].shape[0], width = shape_.width;
  const TensorSpec stream{{tokens, width}, DType::q32};
  const bool all = keep == Keep::all;
  const Cost stack = parts_.stack.cost(stream, all ? parts_.keep : Keep::nothing);
  Cost tiles;
  for (Index begin = 0; begin < tokens; begin += parts_.tile) {
    const Index rows = std::min(parts_.tile, tokens - begin);
    const TensorSpec x{{rows, 2 * width}}, head_in[] = {x, {{rows}, DType::i32}};
    const Cost norm = parts_.norm->cost({&x, 1}, keep), head = parts_.head->cost(head_in, keep);
    tiles.flops += norm.flops + head.flops;
    tiles.saved += norm.saved + head.saved;
    // joined, normalised; in backward the gradients of both.
    tiles.scratch = std::max(tiles.scratch, (all ? 4 : 2) * arena_bytes(x) + std::max(norm.scratch, head.scratch));
  }
  const TensorSpec embedded[] = {{{std::min(tokens, parts_.tile)}, DType::i32}};
  const Index tile_bytes = arena_bytes({{embedded[0].shape[0], width}});
  const Index embedding = tile_bytes + parts_.embedding->cost(embedded, keep).scratch;
  const Index streams = 2 * arena_bytes(stream), gradients = all ? streams : 0, kept = all ? streams : 0;
  const Index outside = all ? 0 : streams;
  return {.flops = stack.flops + tiles.flops,
          .wire_bytes = stack.wire_bytes,
          .saved = kept + stack.saved + tiles.saved,
          .scratch = outside + gradients + std::max({embedding, stack.scratch, tiles.scratch}),
          .peak = kept + outside + gradients +
                  std::max({embedding, stack.together(), stack.saved + tiles.saved + tiles.scratch})};
}

void ReversibleDecoder::embed(Context& context, ConstView tokens, View x1, View x2) {
  for (const View& stream : {x1, x2}) std::memset(stream.data, 0, static_cast<std::size_t>(stream.spec().bytes()));
  for_each_tile(context, tokens.count(), parts_.tile, [&](Context& here, Range rows) {
    const Buffer embedded = here.scratch.take({{rows.size(), shape_.width}}, "model.embedded");
    (void)parts_.embedding->forward(here, Keep::nothing, part(tokens, rows), embedded.view());
    for (const View& stream : {x1, x2})
      add_to_stream("the embedding", embedded.view(), parts_.format, part(stream, rows), here.compute);
  });
}

Buffer ReversibleDecoder::joined(Context& context, ConstView y1, ConstView y2, Range rows) const {
  Buffer buffer = context.scratch.take({{rows.size(), 2 * shape_.width}}, "model.joined");
  ops::from_fixed(part(y1, rows), parts_.format, buffer.view().slice(1, 0, shape_.width), context.compute);
  ops::from_fixed(part(y2, rows), parts_.format, buffer.view().slice(1, shape_.width, 2 * shape_.width),
                  context.compute);
  return buffer;
}

SavedPtr ReversibleDecoder::forward(Context& context, Keep keep, std::span<const ConstView> x, std::span<const View> y,
                                    const Saved*) {
  check_counts(x.size(), 2, "a language model's inputs: tokens, labels");
  check_counts(y.size(), 2, "a language model's outputs: loss, counted");
  const Index tokens = x[0].count();
  const bool all = keep == Keep::all;
  auto saved = std::make_unique<Kept>();
  Kept spare;  // buffers that are not kept
  Kept& place = all ? *saved : spare;
  for (Buffer* stream : {&place.y1, &place.y2})
    *stream = (all ? context.saved : context.scratch).take({{tokens, shape_.width}, DType::q32}, "model.stream");
  const View y1 = place.y1.view(), y2 = place.y2.view();
  embed(context, x[0], y1, y2);
  {
    const Passes passes(*this, context, saved->plans);
    saved->stack = parts_.stack.forward(context, all ? parts_.keep : Keep::nothing, y1, y2);
  }
  double loss = 0;
  std::int64_t counted = 0;
  for_each_tile(context, tokens, parts_.tile, [&](Context& here, Range rows) {
    const Buffer both = joined(here, y1, y2, rows);
    const Buffer normalised = here.scratch.take(both.view().spec(), "model.normalised");
    Kept::Tile tile;
    tile.norm = parts_.norm->forward(here, keep, both.view(), normalised.view());
    const ConstView head_in[] = {normalised.view(), part(x[1], rows)};
    double tile_loss = 0;
    std::int64_t tile_counted = 0;
    const View head_out[] = {view_of(std::span(&tile_loss, 1)), view_of(std::span(&tile_counted, 1))};
    tile.head = parts_.head->forward(here, keep, head_in, head_out, nullptr);
    loss += tile_loss, counted += tile_counted;
    if (all) saved->tiles.push_back(std::move(tile));
  });
  y[0].flat<double>()[0] = loss;
  y[1].flat<std::int64_t>()[0] = counted;
  return saved;
}

void ReversibleDecoder::backward(Context& context, SavedPtr saved, std::span<const ConstView> x,
                                 std::span<const ConstView> dy, std::span<const Gradient> dx) {
  const auto own = claim<Kept>(std::move(saved), "the language model");
  PLASMID_CHECK(own->y1) << "the language model: backward needs Keep::all";
  for (const Gradient& gradient : dx) PLASMID_CHECK(gradient.write == Write::skip) << "tokens have no gradient";
  const Index tokens = x[0].count(), width = shape_.width;
  const View y1 = own->y1.view(), y2 = own->y2.view();
  const Buffer d1 = context.scratch.take({y1.shape}, "model.gradient"),
               d2 = context.scratch.take({y2.shape}, "model.gradient");
  for (Index tile = std::ssize(own->tiles); tile-- > 0;) {
    const Range rows{tile * parts_.tile, std::min(tokens, (tile + 1) * parts_.tile)};
    TokenTile whole(context, rows);
    Context& here = whole.context;
    if (tile > 0) here.gradients = nullptr;  // one use, one `ready`: that of the last tile worked on
    const Buffer both = joined(here, y1, y2, rows);
    const Buffer normalised = here.scratch.take(both.view().spec(), "model.normalised");
    (void)parts_.norm->forward(here, Keep::nothing, both.view(), normalised.view());
    const ConstView head_in[] = {normalised.view(), part(x[1], rows)};
    const Buffer above = here.scratch.take(both.view().spec(), "model.gradient");
    const Gradient head_dx[] = {{above.view()}, {{}, Write::skip}};
    Kept::Tile& kept = own->tiles.back();
    parts_.head->backward(here, std::move(kept.head), head_in, dy, head_dx);
    const Buffer below = here.scratch.take(both.view().spec(), "model.gradient");
    parts_.norm->backward(here, std::move(kept.norm), both.view(), above.view(), {below.view()});
    ops::copy(below.view().slice(1, 0, width), part(d1.view(), rows), here.compute);
    ops::copy(below.view().slice(1, width, 2 * width), part(d2.view(), rows), here.compute);
    own->tiles.pop_back();
  }
  {
    const Passes passes(*this, context, own->plans);
    parts_.stack.unwind(context, std::move(own->stack), y1, y2, d1.view(), d2.view());
  }
  for_each_tile(context, tokens, parts_.tile, [&](Context& here, Range rows) {
    if (rows.end < tokens) here.gradients = nullptr;
    const View sum = part(d1.view(), rows);
    ops::add(sum, part(d2.view(), rows), sum, here.compute);
    parts_.embedding->backward(here, std::make_unique<Saved>(), part(x[0], rows), sum, {{}, Write::skip});
  });
}

void ReversibleDecoder::logits(Context& context, ConstView tokens, View logits) {
  const TensorSpec stream{{tokens.count(), shape_.width}, DType::q32};
  const Buffer y1 = context.scratch.take(stream, "model.stream"), y2 = context.scratch.take(stream, "model.stream");
  embed(context, tokens, y1.view(), y2.view());
  Plans plans;
  const Passes passes(*this, context, plans);
  (void)parts_.stack.forward(context, Keep::nothing, y1.view(), y2.view());
  for_each_tile(context, tokens.count(), parts_.tile, [&](Context& here, Range rows) {
    const Buffer both = joined(here, y1.view(), y2.view(), rows);
    const Buffer normalised = here.scratch.take(both.view().spec(), "model.normalised");
    (void)parts_.norm->forward(here, Keep::nothing, both.view(), normalised.view());
    parts_.head->logits(here, normalised.view(), part(logits, rows));
  });
}

}  // namespace

std::unique_ptr<LanguageModel> make_reversible_decoder(const ModelShape& shape, ReversibleDecoderParts parts) {
  return std::make_unique<ReversibleDecoder>(shape, std::move(parts));
}

}  // namespace plasmid
