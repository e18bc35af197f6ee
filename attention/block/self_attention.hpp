#pragma once
#include <memory>
#include <vector>

#include "attention/ring/ring.hpp"
#include "runtime/nn/affine.hpp"
#include "runtime/nn/module.hpp"

namespace plasmid {

// Which ranks share a sequence, and how they attend: one for all layers of a model.
struct AttentionGroup {
  std::unique_ptr<AttentionKernel> kernel;
  Pattern pattern;
  DType storage = DType::f32;  // of q, k and v, kept and sent: f32 or bf16
  int size = 1;
  std::unique_ptr<RingAttention> ring;
  const RingPlan* plan = nullptr;  // of the batch at work (AttentionPass); null: each layer makes its own
};

// One plan for all layers that share a group, for as long as this lives. Borrows the group and the plan.
class AttentionPass {
 public:
  AttentionPass(AttentionGroup& group, const RingPlan& plan) : group_(group), before_(group.plan) {
    group.plan = &plan;
  }
  AttentionPass(const AttentionPass&) = delete;
  AttentionPass& operator=(const AttentionPass&) = delete;
  ~AttentionPass() { group_.plan = before_; }

 private:
  AttentionGroup& group_;
  const RingPlan* before_;
};
// `ring` is borrowed; kernel null: the host's.
std::shared_ptr<AttentionGroup> make_attention_group(Communicator& ring, const Pattern&,
                                                     std::unique_ptr<AttentionKernel> kernel = nullptr,
                                                     DType storage = DType::f32);

struct SelfAttentionOptions {
  Index heads = 0, kv_heads = 0, head_dim = 0;
  double rope_base = 0;             // 0: no rotary positions
  double dropout = 0;               // of the attention weights, while training
  std::vector<Affine> inputs = {};  // their outputs side by side are q, k, v: one fused projection, or three
  Affine output = {};
};

// Multi-head attention with grouped keys and values over a sequence sharded along the group's ring:
//   y = output(attention(rope(q), rope(k), v)), scores scaled by 1 / sqrt(head_dim).  x, y [tokens, width] f32.
// Keeps (q, k after rotation; v), in one buffer, and (out, lse); Keep::core the latter pair alone, with which a replay
// needs no second ring. Stored as bf16, q, k and v are rounded once, after rotation: forward and backward read the same
// numbers, and the gradients with respect to them are those of the unrounded ones.
class SelfAttention final : public Module {
 public:
  SelfAttention(SelfAttentionOptions, std::shared_ptr<AttentionGroup>);
  using Module::backward;
  using Module::cost;
  using Module::forward;
  std::vector<TensorSpec> outputs(std::span<const TensorSpec> in) const override;
  // Attention FLOPs count one document of tokens x ranks.
  Cost cost(std::span<const TensorSpec> in, Keep) const override;
  void parameters(const ParameterVisitor&) override;
  SavedPtr forward(Context&, Keep, std::span<const ConstView> x, std::span<const View> y, const Saved* replay) override;
  void backward(Context&, SavedPtr, std::span<const ConstView> x, std::span<const ConstView> dy,
                std::span<const Gradient> dx) override;

 private:
  struct Heads;
  struct Kept;
  Index columns() const { return (options_.heads + 2 * options_.kv_heads) * options_.head_dim; }
  Index rotary_columns() const { return (options_.heads + options_.kv_heads) * options_.head_dim; }  // q, then k
  void project(Context&, ConstView x, View qkv) const;
  void rotate(Context&, View columns, Range rows, bool inverse) const;  // columns: of these rows, of whole heads
  DropoutMask weights_mask(const Context&) const;
  const RingPlan& plan(const Context&, RingPlan& spare) const;
  SelfAttentionOptions options_;
  std::shared_ptr<AttentionGroup> group_;
  float scale_;
};

}  // namespace plasmid
