#include "runtime/nn/reversible.hpp"

#include <algorithm>

#include "runtime/base/recycled.hpp"
#include "runtime/nn/at_layer.hpp"
#include "runtime/nn/saved.hpp"

namespace plasmid {
namespace {

struct Kept final : Saved {
  RecycledVector<SavedPtr> branches;  // F, G, F, G, ...
  ~Kept() override {
    while (!branches.empty()) branches.pop_back();  // the stack is given back from its top
  }
};

void check_stream(ConstView stream, ConstView like, DType dtype) {
  check_tensor(stream, {like.shape, dtype}, "a reversible stream");
  PLASMID_CHECK(stream.contiguous()) << "a reversible stream is strided";
}

}  // namespace

ReversibleStack::ReversibleStack(std::vector<Layer> layers) : layers_(std::move(layers)) {}

Cost ReversibleStack::cost(const TensorSpec& stream, Keep keep) const {
  Cost total;
  for (const Layer& layer : layers_)
    for (const ReversibleBranch* branch : {layer.f.get(), layer.g.get()}) {
      const Cost cost = branch->cost(stream, keep);
      total.flops += cost.flops;
      total.wire_bytes += cost.wire_bytes;
      total.saved += cost.saved;
      total.scratch = std::max(total.scratch, cost.scratch);
      total.peak = std::max(total.peak, total.saved + cost.scratch);
    }
  return total;
}

void ReversibleStack::parameters(const ParameterVisitor& visitor) {
  for (const Layer& layer : layers_) {
    layer.f->parameters(visitor);
    layer.g->parameters(visitor);
  }
}

SavedPtr ReversibleStack::forward(Context& context, Keep keep, View x1, View x2) {
  check_stream(x1, x2, DType::q32), check_stream(x2, x1, DType::q32);
  auto kept = std::make_unique<Kept>();
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    {
      const AtLayer here(context, 2 * i, 2 * layers_.size());
      kept->branches.push_back(layers_[i].f->forward(context, keep, x2, x1));
    }
    const AtLayer here(context, 2 * i + 1, 2 * layers_.size());
    kept->branches.push_back(layers_[i].g->forward(context, keep, x1, x2));
  }
  return kept;
}

void ReversibleStack::unwind(Context& context, SavedPtr saved, View y1, View y2, View dy1, View dy2) {
  const auto kept = claim<Kept>(std::move(saved), "ReversibleStack");
  for (const View& stream : {y1, y2}) check_stream(stream, y1, DType::q32);
  for (const View& gradient : {dy1, dy2}) check_stream(gradient, y1, DType::f32);
  const auto last = [&kept] {
    SavedPtr branch = std::move(kept->branches.back());
    kept->branches.pop_back();
    return branch;
  };
  for (std::size_t i = layers_.size(); i-- > 0;) {
    {
      const AtLayer here(context, 2 * i + 1, 2 * layers_.size());
      layers_[i].g->unwind(context, last(), y1, y2, dy2, dy1);
    }
    const AtLayer here(context, 2 * i, 2 * layers_.size());
    layers_[i].f->unwind(context, last(), y2, y1, dy1, dy2);
  }
}

}  // namespace plasmid
