#include "runtime/nn/norm.hpp"

#include "runtime/nn/saved.hpp"
#include "runtime/ops/norm.hpp"

namespace plasmid {
namespace {

struct Statistics final : Saved {
  Buffer mean, rstd;  // [tokens]
};

}  // namespace

LayerNorm::LayerNorm(const std::string& name, Index width, float epsilon)
    : gain_(make_parameter(name + ".weight", {width}, {1, 0})),
      bias_(make_parameter(name + ".bias", {width}, {0, 0})),
      epsilon_(epsilon) {}

std::vector<TensorSpec> LayerNorm::outputs(std::span<const TensorSpec> in) const { return {in[0]}; }

Cost LayerNorm::cost(std::span<const TensorSpec> in, Keep keep) const {
  return {.saved = keep == Keep::all ? 2 * arena_bytes({{in[0].shape[0]}}) : 0};
}

void LayerNorm::parameters(const ParameterVisitor& visitor) {
  visitor(gain_);
  visitor(bias_);
}

SavedPtr LayerNorm::forward(Context& context, Keep keep, std::span<const ConstView> x, std::span<const View> y,
                            const Saved*) {
  const Index tokens = x[0].dim(0);
  check_tensor(x[0], {{tokens, gain_->shape[0]}}, "LayerNorm's x");
  auto saved = std::make_unique<Statistics>();
  if (keep == Keep::all) {
    saved->mean = context.saved.take({{tokens}}, "saved.norm");
    saved->rstd = context.saved.take({{tokens}}, "saved.norm");
  }
  const Lease gain(context.weights, *gain_, context.compute), bias(context.weights, *bias_, context.compute);
  ops::layer_norm_forward(x[0], gain.view(), bias.view(), epsilon_, y[0], saved->mean.view(), saved->rstd.view(),
                          context.compute);
  return saved;
}

void LayerNorm::backward(Context& context, SavedPtr saved, std::span<const ConstView> x, std::span<const ConstView> dy,
                         std::span<const Gradient> dx) {
  const auto own = claim<Statistics>(std::move(saved), "LayerNorm");
  PLASMID_CHECK(own->rstd) << "LayerNorm: backward needs Keep::all";
  const Lease gain(context.weights, *gain_, context.compute);
  ops::layer_norm_backward(x[0], gain.view(), own->mean.view(), own->rstd.view(), dy[0], dx[0].write, dx[0].view,
                           context.weights.gradient(*gain_), context.weights.gradient(*bias_), context.compute);
  announce(context, *gain_);
  announce(context, *bias_);
}

RmsNorm::RmsNorm(const std::string& name, Index width, float epsilon)
    : gain_(make_parameter(name + ".weight", {width}, {1, 0})), epsilon_(epsilon) {}

std::vector<TensorSpec> RmsNorm::outputs(std::span<const TensorSpec> in) const { return {in[0]}; }

Cost RmsNorm::cost(std::span<const TensorSpec> in, Keep keep) const {
  return {.saved = keep == Keep::all ? arena_bytes({{in[0].shape[0]}}) : 0};
}

void RmsNorm::parameters(const ParameterVisitor& visitor) { visitor(gain_); }

SavedPtr RmsNorm::forward(Context& context, Keep keep, std::span<const ConstView> x, std::span<const View> y,
                          const Saved*) {
  const Index tokens = x[0].dim(0);
  check_tensor(x[0], {{tokens, gain_->shape[0]}}, "RmsNorm's x");
  auto saved = std::make_unique<Statistics>();
  if (keep == Keep::all) saved->rstd = context.saved.take({{tokens}}, "saved.norm");
  const Lease gain(context.weights, *gain_, context.compute);
  ops::rms_norm_forward(x[0], gain.view(), epsilon_, y[0], saved->rstd.view(), context.compute);
  return saved;
}

void RmsNorm::backward(Context& context, SavedPtr saved, std::span<const ConstView> x, std::span<const ConstView> dy,
                       std::span<const Gradient> dx) {
  const auto own = claim<Statistics>(std::move(saved), "RmsNorm");
  PLASMID_CHECK(own->rstd) << "RmsNorm: backward needs Keep::all";
  const Lease gain(context.weights, *gain_, context.compute);
  ops::rms_norm_backward(x[0], gain.view(), own->rstd.view(), dy[0], dx[0].write, dx[0].view,
                         context.weights.gradient(*gain_), context.compute);
  announce(context, *gain_);
}

}  // namespace plasmid
