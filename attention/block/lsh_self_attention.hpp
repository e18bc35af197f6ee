#pragma once
#include <memory>
#include <vector>

#include "attention/lsh/lsh_attention.hpp"
#include "runtime/nn/affine.hpp"
#include "runtime/nn/module.hpp"

namespace plasmid {

// Which ranks share a sequence, and how they attend: one for all layers of a model.
struct LshGroup {
  LshAttention attention;
  int size = 1;
  const LshPlan* plan = nullptr;  // of the batch at work (LshPass); null: each layer makes its own
};
// `ring` is borrowed.
std::shared_ptr<LshGroup> make_lsh_group(Communicator& ring, const LshOptions&, const LshBuckets&);

// One plan for all layers that share a group, for as long as this lives. Borrows the group and the plan.
class LshPass {
 public:
  LshPass(LshGroup& group, const LshPlan& plan) : group_(group), before_(group.plan) { group.plan = &plan; }
  LshPass(const LshPass&) = delete;
  LshPass& operator=(const LshPass&) = delete;
  ~LshPass() { group_.plan = before_; }

 private:
  LshGroup& group_;
  const LshPlan* before_;
};

struct LshSelfAttentionOptions {
  Index heads = 0, head_dim = 0;
  std::vector<Affine> inputs = {};  // their outputs side by side are qk and v: one fused projection, or two
  Affine output = {};
  float scale = 0;  // of scores; 0: 1 / sqrt(head_dim)
};

// Multi-head LSH attention (attention/lsh/lsh.hpp) with a shared query and key, over a sequence sharded along the
// group's ranks:
//   y = output(attention(qk(x), v(x))), scores scaled as the options say.  x, y [tokens, width] f32.
// Rotations are those of (RngKey::seed, RngKey::layer): the same in every step, for training and inference.
// Keep::decisions: the buckets, two bytes a token, head and round, with which a replay hashes nothing; Keep::core: out
// and lse too, with which it attends to nothing; Keep::all: qk and v too.
class LshSelfAttention final : public Module {
 public:
  LshSelfAttention(LshSelfAttentionOptions, std::shared_ptr<LshGroup>);
  using Module::backward;
  using Module::cost;
  using Module::forward;
  std::vector<TensorSpec> outputs(std::span<const TensorSpec> in) const override;
  // Attention FLOPs count 2 chunk keys a query and round, half of them where causal.
  Cost cost(std::span<const TensorSpec> in, Keep) const override;
  void parameters(const ParameterVisitor&) override;
  SavedPtr forward(Context&, Keep, std::span<const ConstView> x, std::span<const View> y, const Saved* replay) override;
  void backward(Context&, SavedPtr, std::span<const ConstView> x, std::span<const ConstView> dy,
                std::span<const Gradient> dx) override;

 private:
  struct Kept;
  const LshOptions& lsh() const { return group_->attention.options(); }
  TensorSpec bucket_spec(Index tokens) const { return {{options_.heads, lsh().rounds, tokens}, DType::u16}; }
  TensorSpec rotation_spec() const {
    return {{options_.heads, options_.head_dim, lsh().rounds * group_->attention.shape().columns()}};
  }
  View part(View both, Index which) const;  // of [tokens, 2 heads d]: qk (0) or v (1), [tokens, heads, d]
  void project(Context&, ConstView x, View both) const;
  void hash(Context&, ConstView qk, View buckets) const;
  LshSelfAttentionOptions options_;
  std::shared_ptr<LshGroup> group_;
  float scale_;
};

}  // namespace plasmid
