#pragma once
#include <memory>
#include <vector>

#include "runtime/nn/reversible_branch.hpp"

namespace plasmid {

// Reversible residual layers (Gomez et al. 2017; Kitaev et al. 2020, section 4):
//   y1 = x1 + F(x2);  y2 = x2 + G(y1);  the next layer's (x1, x2) is (y1, y2)
// on streams in fixed point, in place. The inverse is exact to the bit, so backward rebuilds every layer's input from
// its output, and activations take the same memory at any depth. In f32 the rebuilt values drift, and a backward pass
// that hashes or takes a maximum of them would differentiate another function.
class ReversibleStack {
 public:
  struct Layer {
    std::unique_ptr<ReversibleBranch> f, g;
  };
  explicit ReversibleStack(std::vector<Layer> layers);

  Cost cost(const TensorSpec& stream, Keep) const;  // beside the streams and their gradients
  void parameters(const ParameterVisitor&);

  // Streams q32 [tokens, width]: the input's, then the output's. Keep::decisions or Keep::core for an unwind to come,
  // else Keep::nothing. Branch b of layer i of n sees RngKey::layer = 2 n * (that around the stack) + 2 i + b. Throws
  // as the branches do.
  [[nodiscard]] SavedPtr forward(Context&, Keep, View x1_becomes_y1, View x2_becomes_y2);
  // Streams back to what they were before forward, gradients f32 of the outputs to those of the inputs.
  void unwind(Context&, SavedPtr, View y1_becomes_x1, View y2_becomes_x2, View dy1_becomes_dx1, View dy2_becomes_dx2);

 private:
  std::vector<Layer> layers_;
};

}  // namespace plasmid
