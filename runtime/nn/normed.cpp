#include "runtime/nn/normed.hpp"

#include "runtime/nn/saved.hpp"

namespace plasmid {
namespace {

struct Kept final : Saved {
  SavedPtr norm, inner;  // in the order of their making
};

}  // namespace

Normed::Normed(std::unique_ptr<Module> norm, std::unique_ptr<Module> inner)
    : norm_(std::move(norm)), inner_(std::move(inner)) {}

Cost Normed::cost(std::span<const TensorSpec> in, Keep keep) const {
  const Cost norm = norm_->cost(in, keep), inner = inner_->cost(in, keep);
  const Index around = (keep == Keep::all ? 2 : 1) * arena_bytes(in[0]);  // the inner input; in backward its gradient
  return {.flops = norm.flops + inner.flops,
          .wire_bytes = norm.wire_bytes + inner.wire_bytes,
          .saved = norm.saved + inner.saved,
          .scratch = around + inner.scratch,
          .peak = norm.saved + around + inner.together()};
}

void Normed::parameters(const ParameterVisitor& visitor) {
  norm_->parameters(visitor);
  inner_->parameters(visitor);
}

SavedPtr Normed::forward(Context& context, Keep keep, std::span<const ConstView> x, std::span<const View> y,
                         const Saved* replay) {
  const auto* earlier = replayed<Kept>(replay);
  auto saved = std::make_unique<Kept>();
  const Buffer normalised = context.scratch.take(x[0].spec(), "norm.out");
  saved->norm = norm_->forward(context, keep, x[0], normalised.view(), earlier ? earlier->norm.get() : nullptr);
  saved->inner = inner_->forward(context, keep, normalised.view(), y[0], earlier ? earlier->inner.get() : nullptr);
  return saved;
}

void Normed::backward(Context& context, SavedPtr saved, std::span<const ConstView> x, std::span<const ConstView> dy,
                      std::span<const Gradient> dx) {
  const auto own = claim<Kept>(std::move(saved), "Normed");
  const Buffer gradient = context.scratch.take(x[0].spec(), "norm.gradient");
  {
    const Buffer normalised = context.scratch.take(x[0].spec(), "norm.out");
    (void)norm_->forward(context, Keep::nothing, x[0], normalised.view());
    inner_->backward(context, std::move(own->inner), normalised.view(), dy[0], {gradient.view()});
  }
  norm_->backward(context, std::move(own->norm), x[0], gradient.view(), dx[0]);
}

}  // namespace plasmid
