#include "runtime/nn/linear.hpp"

#include "runtime/nn/saved.hpp"

namespace plasmid {

std::vector<TensorSpec> Linear::outputs(std::span<const TensorSpec> in) const {
  check_counts(in.size(), 1, "Linear's inputs");
  return {{{in[0].shape[0], affine_.out()}}};
}

Cost Linear::cost(std::span<const TensorSpec> in, Keep) const { return {.flops = affine_.flops(in[0].shape[0])}; }

SavedPtr Linear::forward(Context& context, Keep, std::span<const ConstView> x, std::span<const View> y, const Saved*) {
  check_tensor(x[0], {{x[0].dim(0), affine_.in()}}, "Linear's x");
  check_tensor(y[0], {{x[0].dim(0), affine_.out()}}, "Linear's y");
  affine_.forward(context, x[0], y[0]);
  return std::make_unique<Saved>();
}

void Linear::backward(Context& context, SavedPtr, std::span<const ConstView> x, std::span<const ConstView> dy,
                      std::span<const Gradient> dx) {
  affine_.input_gradient(context, dy[0], dx[0]);
  affine_.weight_gradient(context, x[0], dy[0]);
}

}  // namespace plasmid
