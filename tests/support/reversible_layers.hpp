#pragma once
#include <functional>
#include <memory>

#include "attention/block/self_attention.hpp"
#include "runtime/nn/reversible_sequence.hpp"

namespace plasmid::test {

struct ReversibleShape {
  Index layers = 6, width = 32, heads = 4, hidden = 128;
  double dropout = 0;
  Index tile = 40;  // of the feed-forward branch
  FixedPoint format = {};
};

struct Branches {  // of one layer, as modules
  std::unique_ptr<Module> attention, mlp;
};

// Layers of causal self-attention and of a GELU MLP, each behind a layer norm, named `layers.I.norm1`, `.attn.q`,
// `.norm2`, `.ffn.in`; layers from `first` on.
std::vector<Branches> branch_modules(const ReversibleShape&, Communicator& ring, Index first = 0);
std::vector<ReversibleStack::Layer> reversible_layers(const ReversibleShape&, Communicator& ring, Index first = 0);

inline ReversibleSequence reversible_sequence(const ReversibleShape& shape, Communicator& ring,
                                              Keep keep = Keep::decisions) {
  return ReversibleSequence(ReversibleStack(reversible_layers(shape, ring)), keep, shape.format);
}

// What a store takes in place of a module: parameters alone.
class ParametersAlone final : public Module {
 public:
  explicit ParametersAlone(std::function<void(const ParameterVisitor&)> visit) : visit_(std::move(visit)) {}
  std::vector<TensorSpec> outputs(std::span<const TensorSpec> in) const override { return {in[0]}; }
  Cost cost(std::span<const TensorSpec>, Keep) const override { return {}; }
  void parameters(const ParameterVisitor& visitor) override { visit_(visitor); }
  SavedPtr forward(Context&, Keep, std::span<const ConstView>, std::span<const View>, const Saved*) override {
    PLASMID_CHECK(false) << "parameters alone";
    return nullptr;
  }
  void backward(Context&, SavedPtr, std::span<const ConstView>, std::span<const ConstView>,
                std::span<const Gradient>) override {
    PLASMID_CHECK(false) << "parameters alone";
  }

 private:
  std::function<void(const ParameterVisitor&)> visit_;
};

}  // namespace plasmid::test
