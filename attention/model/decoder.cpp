#include <algorithm>

#include "attention/model/family.hpp"
#include "runtime/base/error.hpp"
#include "runtime/nn/checkpointed.hpp"
#include "runtime/nn/saved.hpp"
#include "runtime/nn/sequence.hpp"

namespace plasmid {
namespace {

// Embedding, blocks, final norm, loss.
class DecoderModel final : public LanguageModel {
 public:
  DecoderModel(const ModelShape& shape, std::shared_ptr<AttentionGroup> group, DecoderParts parts)
      : shape_(shape),
        group_(std::move(group)),
        embedding_(std::move(parts.embedding)),
        blocks_(std::move(parts.blocks)),
        norm_(std::move(parts.norm)),
        head_(std::move(parts.head)) {}

  const ModelShape& shape() const override { return shape_; }
  std::vector<TensorSpec> outputs(std::span<const TensorSpec> in) const override;
  Cost cost(std::span<const TensorSpec> in, Keep) const override;
  void parameters(const ParameterVisitor&) override;
  SavedPtr forward(Context&, Keep, std::span<const ConstView> x, std::span<const View> y, const Saved* replay) override;
  void backward(Context&, SavedPtr, std::span<const ConstView> x, std::span<const ConstView> dy,
                std::span<const Gradient> dx) override;
  void logits(Context&, ConstView tokens, View logits) override;

 private:
  struct Kept;
  TensorSpec stream(Index tokens) const { return {{tokens, shape_.width}}; }  // the residual stream
  ModelShape shape_;
  std::shared_ptr<AttentionGroup> group_;
  std::unique_ptr<Module> embedding_;
  Sequence blocks_;
  std::unique_ptr<Module> norm_;
  std::unique_ptr<LossHead> head_;
};

struct DecoderModel::Kept final : Saved {
  RingPlan plan;
  // In the order of taking.
  Buffer embedded;  // [tokens, width]: what the blocks read
  SavedPtr embedding;
  Buffer top;  // what the final norm reads
  SavedPtr blocks;
  Buffer normalised;  // what the head reads
  SavedPtr norm, head;
};

std::vector<TensorSpec> DecoderModel::outputs(std::span<const TensorSpec> in) const {
  const TensorSpec head_in[] = {stream(in[0].shape[0]), in[1]};
  return head_->outputs(head_in);
}

Cost DecoderModel::cost(std::span<const TensorSpec> in, Keep keep) const {
  const TensorSpec x = stream(in[0].shape[0]);
  const TensorSpec head_in[] = {x, in[1]};
  const Cost blocks = blocks_.cost({&x, 1}, keep), norm = norm_->cost({&x, 1}, keep), head = head_->cost(head_in, keep);
  Cost total{.flops = blocks.flops + norm.flops + head.flops, .wire_bytes = blocks.wire_bytes};
  const bool all = keep == Keep::all;
  total.saved = (all ? 3 * arena_bytes(x) : 0) + blocks.saved + norm.saved + head.saved;
  // Forward: two buffers of the stream, kept or not. Backward: the gradient of the norm's output and then of its input;
  // of the blocks' output and then of their input.
  const Index stream_bytes = arena_bytes(x), head_scratch = (all ? 1 : 2) * stream_bytes;
  total.scratch = std::max(head_scratch + head.scratch, 2 * stream_bytes + blocks.scratch);
  total.peak = std::max(total.saved - head.saved + head_scratch + head.together(),
                        (all ? 4 : 2) * stream_bytes + blocks.together());
  return total;
}

void DecoderModel::parameters(const ParameterVisitor& visitor) {
  embedding_->parameters(visitor);
  blocks_.parameters(visitor);
  norm_->parameters(visitor);
  head_->parameters(visitor);
}

SavedPtr DecoderModel::forward(Context& context, Keep keep, std::span<const ConstView> x, std::span<const View> y,
                               const Saved* replay) {
  check_counts(x.size(), 2, "a language model's inputs: tokens, labels");
  check_counts(y.size(), 2, "a language model's outputs: loss, counted");
  const auto* earlier = replayed<Kept>(replay);
  const auto past = [&](SavedPtr Kept::*part) { return earlier ? (earlier->*part).get() : nullptr; };
  const TensorSpec spec = stream(x[0].count());
  auto saved = std::make_unique<Kept>();
  const bool all = keep == Keep::all;
  Kept spare;  // buffers that are not kept
  Kept& place = all ? *saved : spare;
  Arena& arena = all ? context.saved : context.scratch;
  place.embedded = arena.take(spec, "model.embedded");
  const View bottom = place.embedded.view();
  saved->embedding = embedding_->forward(context, keep, x[0], bottom, past(&Kept::embedding));
  place.top = arena.take(spec, "model.top");
  const View top = place.top.view();
  saved->plan = group_->ring->plan(context.tokens);
  const AttentionPass pass(*group_, saved->plan);
  saved->blocks = blocks_.forward(context, keep, bottom, top, past(&Kept::blocks));
  if (all) place.normalised = arena.take(spec, "model.normalised");
  const View normalised = all ? place.normalised.view() : bottom;  // the blocks are done with it
  saved->norm = norm_->forward(context, keep, top, normalised, past(&Kept::norm));
  const ConstView head_in[] = {normalised, x[1]};
  saved->head = head_->forward(context, keep, head_in, y, past(&Kept::head));
  return saved;
}

void DecoderModel::backward(Context& context, SavedPtr saved, std::span<const ConstView> x,
                            std::span<const ConstView> dy, std::span<const Gradient> dx) {
  auto own = claim<Kept>(std::move(saved), "the language model");
  PLASMID_CHECK(own->embedded) << "the language model: backward needs Keep::all";
  for (const Gradient& gradient : dx) PLASMID_CHECK(gradient.write == Write::skip) << "tokens have no gradient";
  const TensorSpec spec = stream(x[0].count());
  Buffer above = context.scratch.take(spec, "model.gradient");
  const ConstView head_in[] = {own->normalised.view(), x[1]};
  const Gradient head_dx[] = {{above.view()}, {{}, Write::skip}};
  head_->backward(context, std::move(own->head), head_in, dy, head_dx);
  Buffer below = context.scratch.take(spec, "model.gradient");
  norm_->backward(context, std::move(own->norm), own->top.view(), above.view(), {below.view()});
  own->normalised.reset();
  own->plan.map = &context.tokens;  // equal to the forward's, if not the same object
  const AttentionPass pass(*group_, own->plan);
  blocks_.backward(context, std::move(own->blocks), own->embedded.view(), below.view(), {above.view()});
  below.reset();
  embedding_->backward(context, std::move(own->embedding), x[0], above.view(), {{}, Write::skip});
}

void DecoderModel::logits(Context& context, ConstView tokens, View logits) {
  const TensorSpec spec = stream(tokens.count());
  const Buffer below = context.scratch.take(spec, "model.embedded"), top = context.scratch.take(spec, "model.top");
  (void)embedding_->forward(context, Keep::nothing, tokens, below.view());
  const RingPlan plan = group_->ring->plan(context.tokens);
  const AttentionPass pass(*group_, plan);
  (void)blocks_.forward(context, Keep::nothing, below.view(), top.view());
  (void)norm_->forward(context, Keep::nothing, top.view(), below.view());
  head_->logits(context, below.view(), logits);
}

}  // namespace

std::unique_ptr<LanguageModel> make_decoder(const ModelShape& shape, std::shared_ptr<AttentionGroup> group,
                                            Recompute recompute) {
  PLASMID_CHECK(group->pattern.right == 0) << "a decoder that sees " << group->pattern.right << " later tokens";
  DecoderParts parts = definition_of(shape.family).build(shape, group);
  if (recompute != Recompute::none) {
    const Keep level = recompute == Recompute::core ? Keep::core : Keep::nothing;
    for (auto& block : parts.blocks) block = std::make_unique<Checkpointed>(std::move(block), level);
  }
  return std::make_unique<DecoderModel>(shape, std::move(group), std::move(parts));
}

std::unique_ptr<LanguageModel> make_language_model(const ModelShape& shape, Communicator& ring, const Pattern& pattern,
                                                   Recompute recompute, DType storage) {
  const ModelShape whole = complete(shape);
  if (const auto make = definition_of(whole.family).make) {
    PLASMID_CHECK(pattern == Pattern::causal()) << "the layers of this family have patterns of their own";
    if (storage != DType::f32)
      throw Error(ErrorCode::config, "attention.storage: BF16 is not available for the family " +
                                         std::string(definition_of(whole.family).name) + ": leave it F32");
    return make(whole, ring, recompute);
  }
  return make_decoder(whole, make_attention_group(ring, pattern, nullptr, storage), recompute);
}

}  // namespace plasmid
