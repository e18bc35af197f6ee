#pragma once
#include <memory>
#include <string>

#include "runtime/nn/module.hpp"
#include "runtime/ops/fixed_point.hpp"

namespace plasmid {

// A function F between the two streams of a reversible layer. Streams x, y are q32 [tokens, width], their gradients
// f32; all contiguous and different tensors.
class ReversibleBranch {
 public:
  virtual ~ReversibleBranch() = default;
  // `stream`: a stream's spec. saved: what forward keeps; scratch: the larger of forward's and unwind's.
  virtual Cost cost(const TensorSpec& stream, Keep) const = 0;
  virtual void parameters(const ParameterVisitor&) = 0;

  // y += round(F(x)). Keeps what F's decisions (with Keep::core, its attention too) take, never more. Throws
  // Error{software} naming the branch and the value where a sum is out of the streams' range or not a number.
  [[nodiscard]] virtual SavedPtr forward(Context&, Keep, ConstView x, View y) = 0;
  // y -= round(F(x)), to the bit what forward added, and dx += F'(x)^T dy; parameter gradients accumulate. F is
  // evaluated once.
  virtual void unwind(Context&, SavedPtr kept, ConstView x, View y, ConstView dy, View dx) = 0;
};

// F is a module, applied to all tokens at once: one that mixes tokens.  x, y of the module f32 [tokens, width].
// `name`: in messages ("layer 3, attention").
std::unique_ptr<ReversibleBranch> make_whole_branch(std::string name, std::unique_ptr<Module>, FixedPoint = {});

// F is a module that treats every token alone and makes no decisions, applied to `tile` tokens at a time, so that its
// temporaries are a tile long.
std::unique_ptr<ReversibleBranch> make_tiled_branch(std::string name, std::unique_ptr<Module>, Index tile,
                                                    FixedPoint = {});

// y += round(f), for branches: throws as forward above.
void add_to_stream(const std::string& branch, ConstView f, FixedPoint, View y, Stream&);

}  // namespace plasmid
