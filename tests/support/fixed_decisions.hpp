#pragma once
#include <memory>

#include "runtime/nn/module.hpp"

namespace plasmid::test {

// A module whose decisions are those of its first forward for ever: what remains is a function that can be
// differentiated.
class FixedDecisions final : public Module {
 public:
  explicit FixedDecisions(Module& inner) : inner_(inner) {}
  using Module::backward;
  using Module::cost;
  using Module::forward;
  std::vector<TensorSpec> outputs(std::span<const TensorSpec> in) const override { return inner_.outputs(in); }
  Cost cost(std::span<const TensorSpec> in, Keep keep) const override { return inner_.cost(in, keep); }
  void parameters(const ParameterVisitor& visitor) override { inner_.parameters(visitor); }
  SavedPtr forward(Context& context, Keep keep, std::span<const ConstView> x, std::span<const View> y,
                   const Saved* replay) override {
    if (!decisions_) {
      Context first{context.compute, arena_,          context.scratch,   context.weights, context.rng,
                    context.tokens,  context.sources, context.gradients, context.probe,   context.training};
      decisions_ = inner_.forward(first, Keep::decisions, x, y, nullptr);
    }
    return inner_.forward(context, keep, x, y, replay ? replay : decisions_.get());
  }
  void backward(Context& context, SavedPtr saved, std::span<const ConstView> x, std::span<const ConstView> dy,
                std::span<const Gradient> dx) override {
    inner_.backward(context, std::move(saved), x, dy, dx);
  }

 private:
  Module& inner_;
  Ledger ledger_;
  Arena arena_{Arena::Kind::stack, ledger_};
  SavedPtr decisions_;
};

}  // namespace plasmid::test
