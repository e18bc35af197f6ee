#include "runtime/nn/mlp.hpp"

#include "runtime/nn/saved.hpp"

namespace plasmid {
namespace {

struct Hidden final : Saved {
  Buffer up;  // [tokens, hidden], before the GELU
};

}  // namespace

Mlp::Mlp(Affine up, ops::Activation activation, Affine down)
    : up_(std::move(up)), down_(std::move(down)), activation_(activation) {
  PLASMID_CHECK(up_.out() == down_.in()) << up_.weight->name << " gives " << up_.out() << " channels, "
                                         << down_.weight->name << " takes " << down_.in();
}

std::vector<TensorSpec> Mlp::outputs(std::span<const TensorSpec> in) const { return {{{in[0].shape[0], down_.out()}}}; }

Cost Mlp::cost(std::span<const TensorSpec> in, Keep keep) const {
  const Index tokens = in[0].shape[0], hidden = arena_bytes({{tokens, up_.out()}});
  return {.flops = up_.flops(tokens) + down_.flops(tokens), .saved = keep == Keep::all ? hidden : 0, .scratch = hidden};
}

void Mlp::parameters(const ParameterVisitor& visitor) {
  up_.visit(visitor);
  down_.visit(visitor);
}

SavedPtr Mlp::forward(Context& context, Keep keep, std::span<const ConstView> x, std::span<const View> y,
                      const Saved*) {
  check_tensor(x[0], {{x[0].dim(0), up_.in()}}, "Mlp's x");
  const TensorSpec spec{{x[0].dim(0), up_.out()}};
  auto saved = std::make_unique<Hidden>();
  if (keep == Keep::all) saved->up = context.saved.take(spec, "saved.mlp");
  const Buffer hidden = context.scratch.take(spec, "mlp.hidden");
  const View up = saved->up ? saved->up.view() : hidden.view();
  up_.forward(context, x[0], up, [&](Range rows) {
    ops::activation_forward(rows_of(up, rows), activation_, rows_of(hidden.view(), rows), context.compute);
  });
  down_.forward(context, hidden.view(), y[0]);
  return saved;
}

void Mlp::backward(Context& context, SavedPtr saved, std::span<const ConstView> x, std::span<const ConstView> dy,
                   std::span<const Gradient> dx) {
  const auto own = claim<Hidden>(std::move(saved), "Mlp");
  PLASMID_CHECK(own->up) << "Mlp: backward needs Keep::all";
  const ConstView up = own->up.view();
  // One buffer in turn: the activation again, its gradient, the gradient before the activation.
  const Buffer hidden = context.scratch.take(up.spec(), "mlp.hidden");
  ops::activation_forward(up, activation_, hidden.view(), context.compute);
  down_.weight_gradient(context, hidden.view(), dy[0]);
  down_.input_gradient(context, dy[0], {hidden.view()}, [&](Range rows) {
    const View gradient = rows_of(hidden.view(), rows);
    ops::activation_backward(rows_of(up, rows), activation_, gradient, Write::overwrite, gradient, context.compute);
  });
  up_.input_gradient(context, hidden.view(), dx[0]);
  up_.weight_gradient(context, x[0], hidden.view());
}

}  // namespace plasmid
