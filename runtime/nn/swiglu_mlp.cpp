#include "runtime/nn/mlp.hpp"
#include "runtime/nn/saved.hpp"

namespace plasmid {
namespace {

struct GateAndUp final : Saved {
  Buffer gate, up;  // [tokens, hidden]
};

}  // namespace

SwiGluMlp::SwiGluMlp(Affine gate, Affine up, Affine down)
    : gate_(std::move(gate)), up_(std::move(up)), down_(std::move(down)) {
  PLASMID_CHECK(gate_.out() == up_.out() && up_.out() == down_.in())
      << gate_.weight->name << " gives " << gate_.out() << " channels, " << up_.weight->name << " " << up_.out() << ", "
      << down_.weight->name << " takes " << down_.in();
}

std::vector<TensorSpec> SwiGluMlp::outputs(std::span<const TensorSpec> in) const {
  return {{{in[0].shape[0], down_.out()}}};
}

Cost SwiGluMlp::cost(std::span<const TensorSpec> in, Keep keep) const {
  const Index tokens = in[0].shape[0], hidden = arena_bytes({{tokens, up_.out()}});
  return {.flops = gate_.flops(tokens) + up_.flops(tokens) + down_.flops(tokens),
          .saved = keep == Keep::all ? 2 * hidden : 0,
          .scratch = 2 * hidden};
}

void SwiGluMlp::parameters(const ParameterVisitor& visitor) {
  gate_.visit(visitor);
  up_.visit(visitor);
  down_.visit(visitor);
}

SavedPtr SwiGluMlp::forward(Context& context, Keep keep, std::span<const ConstView> x, std::span<const View> y,
                            const Saved*) {
  check_tensor(x[0], {{x[0].dim(0), up_.in()}}, "SwiGluMlp's x");
  const TensorSpec spec{{x[0].dim(0), up_.out()}};
  auto saved = std::make_unique<GateAndUp>();
  Buffer hidden = context.scratch.take(spec, "mlp.hidden"), spare;
  if (keep == Keep::all) {
    saved->gate = context.saved.take(spec, "saved.mlp");
    saved->up = context.saved.take(spec, "saved.mlp");
  } else {
    spare = context.scratch.take(spec, "mlp.hidden");
  }
  const View gate = saved->gate ? saved->gate.view() : hidden.view();
  const View up = saved->up ? saved->up.view() : spare.view();
  gate_.forward(context, x[0], gate);
  up_.forward(context, x[0], up, [&](Range rows) {
    ops::swiglu_forward(rows_of(gate, rows), rows_of(up, rows), rows_of(hidden.view(), rows), context.compute);
  });
  down_.forward(context, hidden.view(), y[0]);
  return saved;
}

void SwiGluMlp::backward(Context& context, SavedPtr saved, std::span<const ConstView> x, std::span<const ConstView> dy,
                         std::span<const Gradient> dx) {
  const auto own = claim<GateAndUp>(std::move(saved), "SwiGluMlp");
  PLASMID_CHECK(own->up) << "SwiGluMlp: backward needs Keep::all";
  const ConstView gate = own->gate.view(), up = own->up.view();
  // In turn: the activation again, its gradient, the gradient of the gate.
  const Buffer hidden = context.scratch.take(up.spec(), "mlp.hidden");
  const Buffer dup = context.scratch.take(up.spec(), "mlp.hidden");
  ops::swiglu_forward(gate, up, hidden.view(), context.compute);
  down_.weight_gradient(context, hidden.view(), dy[0]);
  down_.input_gradient(context, dy[0], {hidden.view()}, [&](Range rows) {
    const View gradient = rows_of(hidden.view(), rows);
    ops::swiglu_backward(rows_of(gate, rows), rows_of(up, rows), gradient, gradient, rows_of(dup.view(), rows),
                         context.compute);
  });
  gate_.input_gradient(context, hidden.view(), dx[0]);
  up_.input_gradient(context, dup.view(), {dx[0].view, dx[0].write == Write::skip ? Write::skip : Write::accumulate});
  gate_.weight_gradient(context, x[0], hidden.view());
  up_.weight_gradient(context, x[0], dup.view());
}

}  // namespace plasmid
