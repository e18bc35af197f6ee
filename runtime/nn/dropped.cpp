#include "runtime/nn/dropped.hpp"

#include "runtime/nn/saved.hpp"
#include "runtime/ops/dropout.hpp"

namespace plasmid {

DropoutMask dropout_mask(const Context& context, DropoutPlace place, double probability) {
  if (!context.training || probability == 0) return {};
  constexpr std::uint64_t kPurpose = name_key("dropout"), kPlaces = 16;
  const RngKey& rng = context.rng;
  const Philox::Block key =
      Philox::draw(rng.seed ^ kPurpose, rng.step, rng.layer * kPlaces + static_cast<std::uint64_t>(place));
  return {std::uint64_t{key[0]} << 32 | key[1], dropped_of_65536(probability)};
}

Dropped::Dropped(std::unique_ptr<Module> inner, double probability, DropoutPlace place)
    : inner_(std::move(inner)), probability_(probability), place_(place) {
  const std::uint32_t share = dropped_of_65536(probability);
  PLASMID_CHECK(share > 0 && share < 65536) << "dropout with probability " << probability;
}

Cost Dropped::cost(std::span<const TensorSpec> in, Keep keep) const {
  Cost cost = inner_->cost(in, keep);
  if (keep != Keep::all) return cost;
  const Index dy = arena_bytes(inner_->outputs(in)[0]);  // the gradient of the inner y, beside all else of backward
  cost.peak = cost.together() + dy;
  cost.scratch += dy;
  return cost;
}

SavedPtr Dropped::forward(Context& context, Keep keep, std::span<const ConstView> x, std::span<const View> y,
                          const Saved* replay) {
  SavedPtr saved = inner_->forward(context, keep, x, y, replay);
  if (const DropoutMask mask = dropout_mask(context, place_, probability_))
    ops::dropout(y[0], context.tokens.owned(), context.tokens.first, mask, y[0], context.compute);
  return saved;
}

void Dropped::backward(Context& context, SavedPtr saved, std::span<const ConstView> x, std::span<const ConstView> dy,
                       std::span<const Gradient> dx) {
  const DropoutMask mask = dropout_mask(context, place_, probability_);
  if (!mask) return inner_->backward(context, std::move(saved), x, dy, dx);
  const Buffer inner_dy = context.scratch.take(dy[0].spec(), "dropout.gradient");
  ops::dropout(dy[0], context.tokens.owned(), context.tokens.first, mask, inner_dy.view(), context.compute);
  const ConstView view = inner_dy.view();
  inner_->backward(context, std::move(saved), x, {&view, 1}, dx);
}

std::unique_ptr<Module> dropped(std::unique_ptr<Module> inner, double probability, DropoutPlace place) {
  if (probability == 0) return inner;
  return std::make_unique<Dropped>(std::move(inner), probability, place);
}

}  // namespace plasmid
