#include "runtime/nn/reversible_sequence.hpp"

#include <algorithm>
#include <cstring>

#include "runtime/nn/saved.hpp"
#include "runtime/ops/elementwise.hpp"

namespace plasmid {
namespace {

struct Kept final : Saved {
  Buffer y1, y2;  // q32; Keep::all only
  SavedPtr stack;
};

}  // namespace

ReversibleSequence::ReversibleSequence(ReversibleStack stack, Keep keep, FixedPoint format)
    : stack_(std::move(stack)), keep_(keep), format_(format) {
  PLASMID_CHECK(keep == Keep::decisions || keep == Keep::core) << "a reversible layer keeps decisions or the core";
}

Cost ReversibleSequence::cost(std::span<const TensorSpec> in, Keep keep) const {
  const TensorSpec stream{in[0].shape, DType::q32};
  const Index streams = 2 * arena_bytes(stream);
  const bool all = keep == Keep::all;
  const Cost inner = stack_.cost(stream, all ? keep_ : std::min(keep, keep_));
  return {.flops = inner.flops,
          .wire_bytes = inner.wire_bytes,
          .saved = (all ? streams : 0) + inner.saved,
          .scratch = streams + inner.scratch,  // backward: the gradients; a forward that keeps less: the streams
          .peak = streams + (all ? streams : 0) + inner.together()};
}

SavedPtr ReversibleSequence::forward(Context& context, Keep keep, std::span<const ConstView> x, std::span<const View> y,
                                     const Saved*) {
  check_counts(x.size(), 2, "a reversible sequence's inputs");
  check_counts(y.size(), 2, "a reversible sequence's outputs");
  const TensorSpec spec{x[0].shape, DType::q32};
  auto kept = std::make_unique<Kept>();
  Kept spare;
  const bool all = keep == Keep::all;
  Kept& place = all ? *kept : spare;
  for (Buffer* stream : {&place.y1, &place.y2}) {
    *stream = (all ? context.saved : context.scratch).take(spec, "reversible.stream");
    const View to = stream->view();
    std::memset(to.data, 0, static_cast<std::size_t>(spec.bytes()));
    add_to_stream("the input of reversible layers", x[stream == &place.y1 ? 0 : 1], format_, to, context.compute);
  }
  const View streams[] = {place.y1.view(), place.y2.view()};
  kept->stack = stack_.forward(context, all ? keep_ : std::min(keep, keep_), streams[0], streams[1]);
  for (std::size_t i = 0; i < 2; ++i) ops::from_fixed(streams[i], format_, y[i], context.compute);
  return kept;
}

void ReversibleSequence::backward(Context& context, SavedPtr saved, std::span<const ConstView> x,
                                  std::span<const ConstView> dy, std::span<const Gradient> dx) {
  const auto own = claim<Kept>(std::move(saved), "ReversibleSequence");
  PLASMID_CHECK(own->y1) << "ReversibleSequence: backward needs Keep::all";
  Buffer gradients[2];
  for (std::size_t i = 0; i < 2; ++i) {
    gradients[i] = context.scratch.take(x[i].spec(), "reversible.gradient");
    ops::copy(dy[i], gradients[i].view(), context.compute);
  }
  stack_.unwind(context, std::move(own->stack), own->y1.view(), own->y2.view(), gradients[0].view(),
                gradients[1].view());
  for (std::size_t i = 0; i < 2; ++i)
    if (dx[i].write != Write::skip) ops::write(gradients[i].view(), dx[i].write, dx[i].view, context.compute);
}

}  // namespace plasmid
