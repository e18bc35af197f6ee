#include "runtime/nn/sequence.hpp"

#include <algorithm>

#include "runtime/nn/saved.hpp"

namespace plasmid {
namespace {

struct Chain final : Saved {
  struct Link {  // in the order of taking
    Buffer y;    // this layer's output, the next one's input; none for the last layer
    SavedPtr saved;
  };
  RecycledVector<Link> links;
  ~Chain() override {
    while (!links.empty()) links.pop_back();  // the stack is given back from its top
  }
};

// The layer's own coordinate among those of every Sequence around it, for as long as it works.
class AtLayer {
 public:
  AtLayer(Context& context, std::size_t layer, std::size_t layers) : context_(context), around_(context.rng.layer) {
    context_.rng.layer = around_ * layers + layer;
  }
  AtLayer(const AtLayer&) = delete;
  AtLayer& operator=(const AtLayer&) = delete;
  ~AtLayer() { context_.rng.layer = around_; }

 private:
  Context& context_;
  std::uint64_t around_;
};

}  // namespace

Sequence::Sequence(std::vector<std::unique_ptr<Module>> layers) : layers_(std::move(layers)) {
  PLASMID_CHECK(!layers_.empty()) << "a Sequence without layers";
}

std::vector<TensorSpec> Sequence::outputs(std::span<const TensorSpec> in) const { return {in[0]}; }

Cost Sequence::cost(std::span<const TensorSpec> in, Keep keep) const {
  const Index x = arena_bytes(in[0]), last = static_cast<Index>(layers_.size()) - 1;
  Cost total;
  for (Index i = 0; i <= last; ++i) {
    const Cost layer = layers_[static_cast<std::size_t>(i)]->cost(in, keep);
    total.flops += layer.flops;
    total.wire_bytes += layer.wire_bytes;
    if (keep == Keep::all && i < last) total.saved += x;  // taken before the layer's own
    // Two buffers in turn between the layers, values in a forward that keeps less, gradients in backward; the first
    // layer and the last need only one of them, a single layer none.
    const Index between = (i > 0 ? x : 0) + (i < last ? x : 0);
    total.scratch = std::max(total.scratch, between + layer.scratch);
    total.peak = std::max(total.peak, total.saved + between + layer.together());
    total.saved += layer.saved;
  }
  return total;
}

void Sequence::parameters(const ParameterVisitor& visitor) {
  for (const auto& layer : layers_) layer->parameters(visitor);
}

SavedPtr Sequence::forward(Context& context, Keep keep, std::span<const ConstView> x, std::span<const View> y,
                           const Saved* replay) {
  const auto* earlier = replayed<Chain>(replay);
  auto saved = std::make_unique<Chain>();
  ConstView from = x[0];
  Buffer held;  // with less than Keep::all: the layer's input
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    Chain::Link& link = saved->links.emplace_back();
    Buffer passing;
    View to = y[0];
    if (i + 1 < layers_.size()) {
      Buffer& output = keep == Keep::all ? link.y : passing;
      Arena& arena = keep == Keep::all ? context.saved : context.scratch;
      output = arena.take(x[0].spec(), keep == Keep::all ? "saved.layer_input" : "layer.between");
      to = output.view();
    }
    const AtLayer here(context, i, layers_.size());
    link.saved = layers_[i]->forward(context, keep, from, to, earlier ? earlier->links[i].saved.get() : nullptr);
    from = to;
    held = std::move(passing);
  }
  return saved;
}

void Sequence::backward(Context& context, SavedPtr saved, std::span<const ConstView> x, std::span<const ConstView> dy,
                        std::span<const Gradient> dx) {
  const auto own = claim<Chain>(std::move(saved), "Sequence");
  Buffer above;  // the gradient of this layer's output; none for the last layer
  for (std::size_t i = layers_.size(); i-- > 0;) {
    PLASMID_CHECK(i == 0 || own->links[i - 1].y) << "Sequence: backward needs Keep::all";
    const ConstView input = i == 0 ? x[0] : ConstView(own->links[i - 1].y.view());
    Buffer below;
    if (i > 0) below = context.scratch.take(x[0].spec(), "layer.gradient");
    const AtLayer here(context, i, layers_.size());
    layers_[i]->backward(context, std::move(own->links[i].saved), input, above ? ConstView(above.view()) : dy[0],
                         i == 0 ? dx[0] : Gradient{below.view()});
    own->links.pop_back();
    above = std::move(below);
  }
}

}  // namespace plasmid
