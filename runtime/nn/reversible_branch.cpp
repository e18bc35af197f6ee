#include "runtime/nn/reversible_branch.hpp"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "runtime/base/error.hpp"
#include "runtime/nn/token_tile.hpp"

namespace plasmid {
namespace {

TensorSpec floats_of(const TensorSpec& stream) { return {stream.shape, DType::f32}; }

// A context whose saved objects die before the call that made them ends.
Context short_lived(const Context& c) {
  return {c.compute, c.scratch, c.scratch, c.weights, c.rng, c.tokens, c.sources, c.gradients, c.probe, c.training};
}

class WholeBranch final : public ReversibleBranch {
 public:
  WholeBranch(std::string name, std::unique_ptr<Module> inner, FixedPoint format)
      : name_(std::move(name)), inner_(std::move(inner)), format_(format) {}

  Cost cost(const TensorSpec& stream, Keep keep) const override {
    const TensorSpec x = floats_of(stream);
    const Cost kept = inner_->cost(x, std::min(keep, Keep::core)), all = inner_->cost(x, Keep::all);
    const Index bytes = arena_bytes(x);
    return {.flops = all.flops,
            .wire_bytes = all.wire_bytes + (keep < Keep::core ? kept.wire_bytes : 0),
            .saved = kept.saved,
            .scratch = std::max({2 * bytes + kept.scratch, bytes + all.together() - kept.saved,
                                 2 * bytes + std::min(all.together(), all.saved + kept.scratch) - kept.saved})};
  }
  void parameters(const ParameterVisitor& visitor) override { inner_->parameters(visitor); }

  SavedPtr forward(Context& context, Keep keep, ConstView x, View y) override {
    const Buffer in = floats(context, x), out = context.scratch.take(in.view().spec(), "reversible.out");
    SavedPtr kept = inner_->forward(context, std::min(keep, Keep::core), ConstView(in.view()), out.view());
    add_to_stream(name_, out.view(), format_, y, context.compute);
    return kept;
  }

  void unwind(Context& context, SavedPtr kept, ConstView x, View y, ConstView dy, View dx) override {
    const Buffer in = floats(context, x);
    Context here = short_lived(context);
    SavedPtr all;
    {
      const Buffer out = context.scratch.take(in.view().spec(), "reversible.out");
      all = inner_->forward(here, Keep::all, ConstView(in.view()), out.view(), kept.get());
      ops::take_from_fixed(y, out.view(), format_, context.compute);
    }
    inner_->backward(here, std::move(all), in.view(), dy, {dx, Write::accumulate});
  }

 private:
  Buffer floats(Context& context, ConstView x) const {
    Buffer buffer = context.scratch.take(floats_of(x.spec()), "reversible.in");
    ops::from_fixed(x, format_, buffer.view(), context.compute);
    return buffer;
  }
  std::string name_;
  std::unique_ptr<Module> inner_;
  FixedPoint format_;
};

class TiledBranch final : public ReversibleBranch {
 public:
  TiledBranch(const std::string& name, std::unique_ptr<Module> inner, Index tile, FixedPoint format)
      : whole_(name, std::move(inner), format), tile_(tile) {
    PLASMID_CHECK(tile > 0) << "a tile of " << tile << " tokens";
  }

  Cost cost(const TensorSpec& stream, Keep) const override {
    const auto cost_of = [&](Index tokens) {
      TensorSpec part = stream;
      part.shape.dim[0] = tokens;
      return whole_.cost(part, Keep::nothing);
    };
    const Index tokens = stream.shape[0], whole = tokens / tile_;
    const Cost tile = cost_of(std::min(tile_, tokens)), tail = cost_of(tokens % tile_);
    const auto count = static_cast<double>(whole);
    return {.flops = count * tile.flops + tail.flops,
            .wire_bytes = count * tile.wire_bytes + tail.wire_bytes,
            .scratch = whole > 0 ? tile.scratch : tail.scratch};
  }
  void parameters(const ParameterVisitor& visitor) override { whole_.parameters(visitor); }

  SavedPtr forward(Context& context, Keep, ConstView x, View y) override {
    for_each_tile(context, x.dim(0), tile_, [&](Context& here, Range rows) {
      (void)whole_.forward(here, Keep::nothing, x.slice(0, rows.begin, rows.end), y.slice(0, rows.begin, rows.end));
    });
    return nullptr;
  }

  void unwind(Context& context, SavedPtr, ConstView x, View y, ConstView dy, View dx) override {
    for_each_tile(context, x.dim(0), tile_, [&](Context& here, Range rows) {
      const auto part = [&](auto view) { return view.slice(0, rows.begin, rows.end); };
      if (rows.end < x.dim(0)) here.gradients = nullptr;  // one use, one `ready`: that of the last tile
      whole_.unwind(here, nullptr, part(x), part(y), part(dy), part(dx));
    });
  }

 private:
  WholeBranch whole_;
  Index tile_;
};

}  // namespace

void add_to_stream(const std::string& branch, ConstView f, FixedPoint format, View y, Stream& stream) {
  if (ops::add_to_fixed(y, f, format, stream)) return;
  const double value = ops::out_of_range(y, f, format);
  std::ostringstream message;
  message << branch << ": ";
  if (std::isnan(value))
    message << "gives a value that is not a number";
  else
    message << "the reversible stream comes to " << value << ", and " << 31 - format.fraction_bits
            << " bits before the point hold less than " << format.limit();
  throw Error(ErrorCode::software, message.str());
}

std::unique_ptr<ReversibleBranch> make_whole_branch(std::string name, std::unique_ptr<Module> inner,
                                                    FixedPoint format) {
  return std::make_unique<WholeBranch>(std::move(name), std::move(inner), format);
}

std::unique_ptr<ReversibleBranch> make_tiled_branch(std::string name, std::unique_ptr<Module> inner, Index tile,
                                                    FixedPoint format) {
  return std::make_unique<TiledBranch>(name, std::move(inner), tile, format);
}

}  // namespace plasmid
