#include "runtime/nn/loss_head.hpp"

#include <algorithm>
#include <optional>

#include "runtime/nn/saved.hpp"
#include "runtime/ops/cross_entropy.hpp"
#include "runtime/ops/matmul.hpp"

namespace plasmid {
namespace {

constexpr auto kLayout = ops::WeightLayout::out_in;
// A chunk of logits stays near the cache's size, but has rows enough for the product to be worth its packing.
constexpr Index kChunkFloats = Index{1} << 18, kLeastRows = 288, kPanelRows = 96;

struct RowSums final : Saved {
  Buffer lse;  // [tokens]
};

class MaybeLease {
 public:
  MaybeLease(Context& context, const ParameterPtr& parameter) {
    if (parameter) lease_.emplace(context.weights, *parameter, context.compute);
  }
  ConstView view() const { return lease_ ? lease_->view() : ConstView(); }

 private:
  std::optional<Lease> lease_;
};

}  // namespace

LossHead::LossHead(ParameterPtr weight, ParameterPtr bias) : weight_(std::move(weight)), bias_(std::move(bias)) {}

void LossHead::parameters(const ParameterVisitor& visitor) {
  visitor(weight_);
  if (bias_) visitor(bias_);
}

Index LossHead::chunk(Index tokens) const {
  const Index rows = std::max(kLeastRows, round_up(kChunkFloats / weight_->shape[0], kPanelRows));
  return std::clamp<Index>(rows, 1, std::max<Index>(1, tokens));
}

std::vector<TensorSpec> LossHead::outputs(std::span<const TensorSpec> in) const {
  check_counts(in.size(), 2, "LossHead's inputs");
  return {{{1}, DType::f64}, {{1}, DType::i64}};
}

Cost LossHead::cost(std::span<const TensorSpec> in, Keep keep) const {
  const Index tokens = in[0].shape[0], vocabulary = weight_->shape[0], rows = chunk(tokens);
  const Index lse = arena_bytes({{keep == Keep::all ? tokens : rows}});
  return {.flops = 6.0 * static_cast<double>(tokens) * static_cast<double>(weight_->shape.count()),
          .saved = keep == Keep::all ? lse : 0,
          .scratch = arena_bytes({{rows, vocabulary}}) + (keep == Keep::all ? 0 : lse)};
}

SavedPtr LossHead::forward(Context& context, Keep keep, std::span<const ConstView> x, std::span<const View> y,
                           const Saved*) {
  const Index tokens = x[0].dim(0), vocabulary = weight_->shape[0], rows = chunk(tokens);
  check_tensor(x[0], {{tokens, weight_->shape[1]}}, "LossHead's hidden");
  check_tensor(x[1], {{tokens}, DType::i32}, "LossHead's labels");
  auto saved = std::make_unique<RowSums>();
  Buffer spare;
  if (keep == Keep::all) {
    saved->lse = context.saved.take({{tokens}}, "saved.loss");
  } else {
    spare = context.scratch.take({{rows}}, "loss.lse");
  }
  const Buffer buffer = context.scratch.take({{rows, vocabulary}}, "loss.logits");
  const Lease weight(context.weights, *weight_, context.compute);
  const MaybeLease bias(context, bias_);
  double loss = 0;
  for (Index begin = 0; begin < tokens; begin += rows) {
    const Index end = std::min(tokens, begin + rows);
    const View logits = buffer.view().slice(0, 0, end - begin);
    const View lse = saved->lse ? saved->lse.view().slice(0, begin, end) : spare.view().slice(0, 0, end - begin);
    ops::linear_forward(x[0].slice(0, begin, end), weight.view(), kLayout, bias.view(), logits, context.compute);
    loss += ops::cross_entropy_forward(logits, x[1].slice(0, begin, end), lse, context.compute);
  }
  const auto labels = x[1].flat<std::int32_t>();
  y[0].flat<double>()[0] = loss;
  y[1].flat<std::int64_t>()[0] = std::ranges::count_if(labels, [](std::int32_t label) { return label >= 0; });
  return saved;
}

void LossHead::backward(Context& context, SavedPtr saved, std::span<const ConstView> x, std::span<const ConstView> dy,
                        std::span<const Gradient> dx) {
  const auto own = claim<RowSums>(std::move(saved), "LossHead");
  PLASMID_CHECK(own->lse) << "LossHead: backward needs Keep::all";
  PLASMID_CHECK(dx.size() < 2 || dx[1].write == Write::skip) << "labels have no gradient";
  const Index tokens = x[0].dim(0), vocabulary = weight_->shape[0], rows = chunk(tokens);
  const auto dloss = static_cast<float>(dy[0].flat<double>()[0]);
  const Buffer buffer = context.scratch.take({{rows, vocabulary}}, "loss.logits");
  const Lease weight(context.weights, *weight_, context.compute);
  const MaybeLease bias(context, bias_);
  const View dweight = context.weights.gradient(*weight_), dbias = bias_ ? context.weights.gradient(*bias_) : View();
  for (Index begin = 0; begin < tokens; begin += rows) {
    const Index end = std::min(tokens, begin + rows);
    const ConstView hidden = x[0].slice(0, begin, end);
    const View logits = buffer.view().slice(0, 0, end - begin);
    ops::linear_forward(hidden, weight.view(), kLayout, bias.view(), logits, context.compute);
    ops::cross_entropy_backward(logits, x[1].slice(0, begin, end), own->lse.view().slice(0, begin, end), dloss,
                                context.compute);
    if (dx[0].write != Write::skip)
      ops::linear_input_gradient(logits, weight.view(), kLayout, dx[0].write, dx[0].view.slice(0, begin, end),
                                 context.compute);
    ops::linear_weight_gradient(hidden, logits, kLayout, dweight, dbias, context.compute);
  }
  announce(context, *weight_);
  if (bias_) announce(context, *bias_);
}

void LossHead::logits(Context& context, ConstView hidden, View logits) {
  check_tensor(logits, {{hidden.dim(0), weight_->shape[0]}}, "logits");
  const Lease weight(context.weights, *weight_, context.compute);
  const MaybeLease bias(context, bias_);
  ops::linear_forward(hidden, weight.view(), kLayout, bias.view(), logits, context.compute);
}

}  // namespace plasmid
