#pragma once
#include "runtime/nn/module.hpp"

namespace plasmid {

// y = inner(norm(x)).  x f32, norm(x) of its shape, y the inner module's. The normalised input is not kept: backward
// forms it again, from x, to the same bits.
class Normed final : public Module {
 public:
  Normed(std::unique_ptr<Module> norm, std::unique_ptr<Module> inner);
  using Module::backward;
  using Module::cost;
  using Module::forward;
  std::vector<TensorSpec> outputs(std::span<const TensorSpec> in) const override { return inner_->outputs(in); }
  Cost cost(std::span<const TensorSpec> in, Keep) const override;
  void parameters(const ParameterVisitor&) override;
  SavedPtr forward(Context&, Keep, std::span<const ConstView> x, std::span<const View> y, const Saved* replay) override;
  void backward(Context&, SavedPtr, std::span<const ConstView> x, std::span<const ConstView> dy,
                std::span<const Gradient> dx) override;

 private:
  std::unique_ptr<Module> norm_, inner_;
};

}  // namespace plasmid
