#include "runtime/nn/pre_norm.hpp"

#include "runtime/nn/saved.hpp"
#include "runtime/ops/elementwise.hpp"

namespace plasmid {
namespace {

struct Branch final : Saved {
  SavedPtr norm, inner;  // in the order of their making
};

}  // namespace

PreNorm::PreNorm(std::unique_ptr<Module> norm, std::unique_ptr<Module> inner)
    : norm_(std::move(norm)), inner_(std::move(inner)) {}

std::vector<TensorSpec> PreNorm::outputs(std::span<const TensorSpec> in) const { return {in[0]}; }

Cost PreNorm::cost(std::span<const TensorSpec> in, Keep keep) const {
  const Cost norm = norm_->cost(in, keep), inner = inner_->cost(in, keep);
  const Index around = (keep == Keep::all ? 2 : 1) * arena_bytes(in[0]);  // the inner input; in backward its gradient
  return {.flops = norm.flops + inner.flops,
          .wire_bytes = norm.wire_bytes + inner.wire_bytes,
          .saved = norm.saved + inner.saved,
          .scratch = around + inner.scratch,
          .peak = norm.saved + around + inner.together()};
}

void PreNorm::parameters(const ParameterVisitor& visitor) {
  norm_->parameters(visitor);
  inner_->parameters(visitor);
}

SavedPtr PreNorm::forward(Context& context, Keep keep, std::span<const ConstView> x, std::span<const View> y,
                          const Saved* replay) {
  check_tensor(y[0], x[0].spec(), "PreNorm's y");
  const auto* earlier = replayed<Branch>(replay);
  auto saved = std::make_unique<Branch>();
  const Buffer normalised = context.scratch.take(x[0].spec(), "norm.out");
  saved->norm = norm_->forward(context, keep, x[0], normalised.view(), earlier ? earlier->norm.get() : nullptr);
  saved->inner = inner_->forward(context, keep, normalised.view(), y[0], earlier ? earlier->inner.get() : nullptr);
  ops::add(x[0], y[0], y[0], context.compute);
  return saved;
}

void PreNorm::backward(Context& context, SavedPtr saved, std::span<const ConstView> x, std::span<const ConstView> dy,
                       std::span<const Gradient> dx) {
  const auto own = claim<Branch>(std::move(saved), "PreNorm");
  const Buffer gradient = context.scratch.take(x[0].spec(), "norm.gradient");
  {
    const Buffer normalised = context.scratch.take(x[0].spec(), "norm.out");
    (void)norm_->forward(context, Keep::nothing, x[0], normalised.view());
    inner_->backward(context, std::move(own->inner), normalised.view(), dy[0], {gradient.view()});
  }
  if (dx[0].write != Write::skip) ops::write(dy[0], dx[0].write, dx[0].view, context.compute);
  const Write write = dx[0].write == Write::skip ? Write::skip : Write::accumulate;
  norm_->backward(context, std::move(own->norm), x[0], gradient.view(), {dx[0].view, write});
}

}  // namespace plasmid
