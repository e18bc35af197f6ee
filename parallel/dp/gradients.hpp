#pragma once
#include <span>

#include "parallel/mesh/process_mesh.hpp"
#include "runtime/base/recycled.hpp"
#include "runtime/nn/parameter.hpp"

namespace plasmid {

// A stretch of the flat gradient whose parameters are partial sums over the same mesh axes.
struct GradientBucket {
  Range range;
  unsigned axes = 0;
};
inline constexpr Index kGradientBucketBytes = Index{4} << 20;

// Covers each parameter with a non-empty partial_over, in the order of the store: neighbours on the same axes share a
// bucket (with the gap between them), and none is longer than `bucket_bytes`. Pure, and equal on all ranks of a mesh.
RecycledVector<GradientBucket> gradient_buckets(std::span<const ParameterPtr>,
                                                Index bucket_bytes = kGradientBucketBytes);

// Sums each parameter's gradient over the axes that it is a partial sum over (Parameter::partial_over), in place, and
// over no others. `flat` is the store's gradient buffer, into which Parameter::range points. Collective over the mesh;
// at most two buckets are in flight, since MPI keeps a copy of each. Nothing is divided: the optimiser divides by the
// token count once.
void reduce_gradients(std::span<float> flat, std::span<const ParameterPtr>, ProcessMesh&, Stream&,
                      Index bucket_bytes = kGradientBucketBytes);

struct LossSums {
  double loss = 0;
  Index tokens = 0;
};
// Sums over the ranks that hold different tokens; a rank without a counted token joins with zeros. The mean is
// loss / tokens of the result, never a mean of means.
LossSums reduce_sums(LossSums, ProcessMesh&, Stream&);

}  // namespace plasmid
