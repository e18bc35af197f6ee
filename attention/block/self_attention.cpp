#include "attention/block/self_attention.hpp"

#include <algorithm>
#include <cmath>

#include "runtime/nn/dropped.hpp"
#include "runtime/nn/saved.hpp"
#include "runtime/ops/elementwise.hpp"
#include "runtime/ops/rope.hpp"

namespace plasmid {

std::shared_ptr<AttentionGroup> make_attention_group(Communicator& ring, const Pattern& pattern,
                                                     std::unique_ptr<AttentionKernel> kernel, DType storage) {
  PLASMID_CHECK(storage == DType::f32 || storage == DType::bf16) << "attention stores no " << name_of(storage);
  auto group = std::make_shared<AttentionGroup>();
  group->storage = storage;
  group->kernel = kernel ? std::move(kernel) : make_host_kernel();
  group->pattern = pattern;
  group->size = ring.size();
  group->ring = std::make_unique<RingAttention>(ring, *group->kernel, pattern);
  return group;
}

// The parts of the fused buffer [tokens, (heads + 2 kv_heads) * d], as [tokens, heads, d].
struct SelfAttention::Heads {
  Heads(const SelfAttentionOptions& o, View qkv) {
    const auto part = [&](Index first, Index heads) {
      return qkv.slice(1, first * o.head_dim, (first + heads) * o.head_dim).reshape({qkv.dim(0), heads, o.head_dim});
    };
    q = part(0, o.heads);
    k = part(o.heads, o.kv_heads);
    v = part(o.heads + o.kv_heads, o.kv_heads);
  }
  View q, k, v;
};

struct SelfAttention::Kept final : Saved {
  Buffer qkv;               // [tokens, (heads + 2 kv_heads) * d], rotated, as stored; Keep::all only
  Buffer own_out, own_lse;  // where no replay lent them
  View out, lse;            // [tokens, heads * d], [tokens, heads]; these, or the replay's
};

SelfAttention::SelfAttention(SelfAttentionOptions options, std::shared_ptr<AttentionGroup> group)
    : options_(std::move(options)),
      group_(std::move(group)),
      scale_(static_cast<float>(1 / std::sqrt(static_cast<double>(options_.head_dim)))) {
  Index out = 0;
  for (const Affine& input : options_.inputs) out += input.out();
  PLASMID_CHECK(out == columns()) << "the projections give " << out << " channels, q, k and v take " << columns();
  PLASMID_CHECK(options_.output.in() == options_.heads * options_.head_dim) << options_.output.weight->name;
}

std::vector<TensorSpec> SelfAttention::outputs(std::span<const TensorSpec> in) const {
  return {{{in[0].shape[0], options_.output.out()}}};
}

Cost SelfAttention::cost(std::span<const TensorSpec> in, Keep keep) const {
  const auto& [heads, kv_heads, d, base, dropout, inputs, output] = options_;
  const Index tokens = in[0].shape[0], total = tokens * group_->size;
  const DType storage = group_->storage;
  const Index qkv = arena_bytes({{tokens, columns()}}), stored = arena_bytes({{tokens, columns()}, storage});
  const Index core_out = arena_bytes({{tokens, heads * d}});
  const Index ring = group_->ring->scratch_bytes(tokens, heads, kv_heads, d, storage);
  Cost cost;
  for (const Affine& input : inputs) cost.flops += input.flops(tokens);
  // Keys a query sees on average: all of its row, cut by the pattern at the line's ends.
  const auto reach = [&](Index limit) {
    const auto far = static_cast<double>(std::min(limit, total)), line = static_cast<double>(std::max<Index>(total, 1));
    return far - far * far / (2 * line);
  };
  const Pattern& pattern = group_->pattern;
  // Of a chunked pattern: the chunk before, and half of the query's own.
  const double left =
      pattern.chunk > 0 ? reach(std::min(pattern.left, pattern.chunk + pattern.chunk / 2)) : reach(pattern.left);
  const double keys = left + reach(pattern.right);
  cost.flops += output.flops(tokens) + 12.0 * static_cast<double>(tokens * heads * d) * keys;
  cost.wire_bytes = group_->ring->wire_bytes(tokens, kv_heads, d, storage);
  if (keep >= Keep::core) cost.saved += core_out + arena_bytes({{tokens, heads}});
  if (keep == Keep::all) cost.saved += stored;
  // Forward: the ring beside what is not kept, after the rounding. Backward: the gradients of out, q, k and v beside
  // the ring.
  if (keep == Keep::all) {
    cost.scratch = core_out + qkv + ring;
  } else {
    const Index unrounded = storage == DType::f32 ? 0 : qkv;
    cost.scratch =
        stored + std::max(unrounded, ring + (keep == Keep::core ? 0 : core_out + arena_bytes({{tokens, heads}})));
  }
  return cost;
}

void SelfAttention::parameters(const ParameterVisitor& visitor) {
  for (const Affine& input : options_.inputs) input.visit(visitor);
  options_.output.visit(visitor);
}

void SelfAttention::project(Context& context, ConstView x, View qkv) const {
  if (qkv.dtype != DType::f32) {
    const Buffer wide = context.scratch.take({qkv.shape}, "attention.qkv");
    project(context, x, wide.view());
    return ops::round(wide.view(), qkv, context.compute);
  }
  Index column = 0;
  for (const Affine& input : options_.inputs) {
    const View part = qkv.slice(1, column, column + input.out());
    // The channels of q and k among this input's, rotated row by row as the product gives them.
    const Index rotated = options_.rope_base == 0 ? 0 : std::min(input.out(), rotary_columns() - column);
    if (rotated > 0)
      input.forward(context, x, part,
                    [&](Range rows) { rotate(context, rows_of(part.slice(1, 0, rotated), rows), rows, false); });
    else
      input.forward(context, x, part);
    column += input.out();
  }
}

void SelfAttention::rotate(Context& context, View columns, Range rows, bool inverse) const {
  const Index d = options_.head_dim;
  ops::rope(columns.reshape({columns.dim(0), columns.dim(1) / d, d}), rows_of(context.tokens.position, rows),
            options_.rope_base, inverse, context.compute);
}

DropoutMask SelfAttention::weights_mask(const Context& context) const {
  return dropout_mask(context, DropoutPlace::attention_probabilities, options_.dropout);
}

// The batch's, or one made here that `spare` holds.
const RingPlan& SelfAttention::plan(const Context& context, RingPlan& spare) const {
  if (!group_->plan) return spare = group_->ring->plan(context.tokens);
  PLASMID_CHECK(group_->plan->map == &context.tokens) << "the plan of another batch";
  return *group_->plan;
}

SavedPtr SelfAttention::forward(Context& context, Keep keep, std::span<const ConstView> x, std::span<const View> y,
                                const Saved* replay) {
  const Index tokens = x[0].dim(0), heads = options_.heads, d = options_.head_dim;
  check_tensor(x[0], {{context.tokens.tokens(), options_.inputs[0].in()}}, "SelfAttention's x");
  const auto* earlier = replayed<Kept>(replay);
  const bool reuse = earlier && earlier->out;
  auto saved = std::make_unique<Kept>();
  Buffer qkv_spare, out_spare, lse_spare;
  const auto place = [&](Keep least, Buffer& kept, Buffer& spare, const TensorSpec& spec, const char* tag) {
    Buffer& buffer = keep >= least ? kept : spare;
    buffer = (keep >= least ? context.saved : context.scratch).take(spec, tag);
    return buffer.view();
  };
  View out, lse;
  if (reuse) {
    out = earlier->out;
    lse = earlier->lse;
  }
  if (!reuse || keep == Keep::all) {
    const View qkv = place(Keep::all, saved->qkv, qkv_spare, {{tokens, columns()}, group_->storage}, "attention.qkv");
    project(context, x[0], qkv);
    if (!reuse) {
      out = place(Keep::core, saved->own_out, out_spare, {{tokens, heads * d}}, "attention.out");
      lse = place(Keep::core, saved->own_lse, lse_spare, {{tokens, heads}}, "attention.lse");
      const Heads part(options_, qkv);
      RingPlan spare;
      group_->ring->forward(plan(context, spare), part.q, part.k, part.v, scale_, out.reshape({tokens, heads, d}), lse,
                            context.scratch, context.compute, weights_mask(context));
    }
  }
  options_.output.forward(context, out, y[0]);
  if (keep >= Keep::core) {
    saved->out = out;
    saved->lse = lse;
  }
  return saved;
}

void SelfAttention::backward(Context& context, SavedPtr saved, std::span<const ConstView> x,
                             std::span<const ConstView> dy, std::span<const Gradient> dx) {
  const auto own = claim<Kept>(std::move(saved), "SelfAttention");
  PLASMID_CHECK(own->qkv) << "SelfAttention: backward needs Keep::all";
  const Index tokens = x[0].dim(0);
  const Shape by_head{tokens, options_.heads, options_.head_dim};
  const Buffer dqkv_buffer = context.scratch.take({own->qkv.view().shape}, "attention.dqkv");
  const View dqkv = dqkv_buffer.view();
  const Heads part(options_, own->qkv.view()), gradient(options_, dqkv);
  {
    const Buffer dout = context.scratch.take(own->out.spec(), "attention.dout");
    options_.output.input_gradient(context, dy[0], {dout.view()});
    options_.output.weight_gradient(context, own->out, dy[0]);
    RingPlan spare;
    group_->ring->backward(plan(context, spare), part.q, part.k, part.v, own->out.reshape(by_head), own->lse,
                           dout.view().reshape(by_head), scale_, gradient.q, gradient.k, gradient.v, context.scratch,
                           context.compute, weights_mask(context));
  }
  if (options_.rope_base != 0)  // a rotation's transpose is its inverse
    rotate(context, dqkv.slice(1, 0, rotary_columns()), {0, tokens}, true);
  Index column = 0;
  Write write = dx[0].write;
  for (const Affine& input : options_.inputs) {
    const View part_gradient = dqkv.slice(1, column, column + input.out());
    input.input_gradient(context, part_gradient, {dx[0].view, write});
    input.weight_gradient(context, x[0], part_gradient);
    column += input.out();
    if (write == Write::overwrite) write = Write::accumulate;
  }
}

}  // namespace plasmid
