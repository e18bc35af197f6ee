#include "runtime/nn/checkpointed.hpp"

#include <algorithm>

#include "runtime/base/recycled.hpp"
#include "runtime/nn/saved.hpp"

namespace plasmid {
namespace {

struct Kept final : Saved {
  SavedPtr inner;
  RecycledVector<TensorSpec> outputs;
  bool all = false;
};

}  // namespace

Checkpointed::Checkpointed(std::unique_ptr<Module> inner, Keep level) : inner_(std::move(inner)), level_(level) {
  PLASMID_CHECK(level < Keep::all) << "Checkpointed that keeps all";
}

Cost Checkpointed::cost(std::span<const TensorSpec> in, Keep keep) const {
  Cost kept = inner_->cost(in, std::min(keep, level_));
  if (keep != Keep::all) return kept;
  const Cost again = inner_->cost(in, Keep::all);
  Index y = 0;
  for (const TensorSpec& spec : inner_->outputs(in)) y += arena_bytes(spec);
  // What the second forward keeps, but for what it finds kept, is scratch memory; y is gone when backward starts.
  return {.flops = again.flops,
          .wire_bytes = again.wire_bytes + (level_ < Keep::core ? kept.wire_bytes : 0),
          .saved = kept.saved,
          .scratch = std::max({kept.scratch, again.together() - kept.saved, again.saved - kept.saved + y})};
}

SavedPtr Checkpointed::forward(Context& context, Keep keep, std::span<const ConstView> x, std::span<const View> y,
                               const Saved* replay) {
  const auto* earlier = replayed<Kept>(replay);
  auto saved = std::make_unique<Kept>();
  saved->all = keep == Keep::all;
  for (const View& view : y) saved->outputs.push_back(view.spec());
  saved->inner = inner_->forward(context, std::min(keep, level_), x, y, earlier ? earlier->inner.get() : nullptr);
  return saved;
}

void Checkpointed::backward(Context& context, SavedPtr saved, std::span<const ConstView> x,
                            std::span<const ConstView> dy, std::span<const Gradient> dx) {
  const auto own = claim<Kept>(std::move(saved), "Checkpointed");
  PLASMID_CHECK(own->all) << "Checkpointed: backward needs Keep::all";
  Context again{context.compute, context.scratch, context.scratch,   context.weights, context.rng,
                context.tokens,  context.sources, context.gradients, context.probe,   context.training};
  SavedPtr whole;
  {
    RecycledVector<Buffer> buffers;
    RecycledVector<View> y;
    for (const TensorSpec& spec : own->outputs) {
      buffers.push_back(context.scratch.take(spec, "checkpoint.out"));
      y.push_back(buffers.back().view());
    }
    whole = inner_->forward(again, Keep::all, x, y, own->inner.get());
  }
  inner_->backward(again, std::move(whole), x, dy, dx);
}

}  // namespace plasmid
