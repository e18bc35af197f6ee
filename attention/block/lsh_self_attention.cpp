#include "attention/block/lsh_self_attention.hpp"

#include <algorithm>
#include <cmath>
#include <optional>

#include "runtime/nn/saved.hpp"

namespace plasmid {

std::shared_ptr<LshGroup> make_lsh_group(Communicator& ring, const LshOptions& options, const LshBuckets& buckets) {
  return std::make_shared<LshGroup>(LshGroup{LshAttention(ring, options, buckets), ring.size(), nullptr});
}

struct LshSelfAttention::Kept final : Saved {
  Buffer both;                           // [tokens, 2 heads d]: qk, v; Keep::all only
  Buffer own_buckets, own_out, own_lse;  // where no replay lent them
  ConstView buckets;                     // [heads, rounds, tokens]; these, or the replay's
  ConstView out, lse;                    // [tokens, heads d] f32, [tokens, heads] f64
};

namespace {

// The batch's plan: the group's, or one made for this call.
class PlanOf {
 public:
  PlanOf(const LshGroup& group, const TokenMap& map) {
    if (!group.plan) own_.emplace(group.attention.plan(map));
    plan_ = group.plan ? group.plan : &*own_;
    PLASMID_CHECK(plan_->map == &map) << "the plan of another batch";
  }
  const LshPlan& operator*() const { return *plan_; }

 private:
  std::optional<LshPlan> own_;
  const LshPlan* plan_;
};

}  // namespace

LshSelfAttention::LshSelfAttention(LshSelfAttentionOptions options, std::shared_ptr<LshGroup> group)
    : options_(std::move(options)),
      group_(std::move(group)),
      scale_(options_.scale > 0 ? options_.scale
                                : static_cast<float>(1 / std::sqrt(static_cast<double>(options_.head_dim)))) {
  Index out = 0;
  for (const Affine& input : options_.inputs) out += input.out();
  const Index width = options_.heads * options_.head_dim;
  PLASMID_CHECK(out == 2 * width) << "the projections give " << out << " channels, qk and v take " << 2 * width;
  PLASMID_CHECK(options_.output.in() == width) << options_.output.weight->name;
}

std::vector<TensorSpec> LshSelfAttention::outputs(std::span<const TensorSpec> in) const {
  return {{{in[0].shape[0], options_.output.out()}}};
}

Cost LshSelfAttention::cost(std::span<const TensorSpec> in, Keep keep) const {
  const Index tokens = in[0].shape[0], heads = options_.heads, d = options_.head_dim, width = heads * d;
  const Index both = arena_bytes({{tokens, 2 * width}}), buckets = arena_bytes(bucket_spec(tokens));
  const Index core = arena_bytes({{tokens, width}}) + arena_bytes({{tokens, heads}, DType::f64});
  Cost cost;
  for (const Affine& input : options_.inputs) cost.flops += input.flops(tokens);
  const double keys = static_cast<double>(std::min(2 * lsh().chunk, tokens * group_->size)) * (lsh().causal ? 0.5 : 1);
  cost.flops += options_.output.flops(tokens) + 12.0 * static_cast<double>(tokens * width * lsh().rounds) * keys;
  cost.wire_bytes = group_->attention.wire_bytes(tokens, heads, d);
  const Index attention = group_->attention.scratch_bytes(tokens, heads, d);
  const Index hashing =
      arena_bytes(rotation_spec()) + lsh_hash_scratch_bytes(tokens, heads, lsh().rounds, group_->attention.shape());
  const Index forward = std::max(attention, hashing);
  if (keep >= Keep::decisions) cost.saved += buckets;
  if (keep >= Keep::core) cost.saved += core;
  if (keep == Keep::all) cost.saved += both;
  if (keep == Keep::all) {
    cost.scratch = std::max(forward, both + arena_bytes({{tokens, width}}) + attention);
  } else {
    cost.scratch = both + forward + (keep >= Keep::core ? 0 : core) + (keep >= Keep::decisions ? 0 : buckets);
  }
  return cost;
}

void LshSelfAttention::parameters(const ParameterVisitor& visitor) {
  for (const Affine& input : options_.inputs) input.visit(visitor);
  options_.output.visit(visitor);
}

View LshSelfAttention::part(View both, Index which) const {
  const Index width = options_.heads * options_.head_dim;
  return both.slice(1, which * width, (which + 1) * width).reshape({both.dim(0), options_.heads, options_.head_dim});
}

void LshSelfAttention::project(Context& context, ConstView x, View both) const {
  Index column = 0;
  for (const Affine& input : options_.inputs) {
    input.forward(context, x, both.slice(1, column, column + input.out()));
    column += input.out();
  }
}

void LshSelfAttention::hash(Context& context, ConstView qk, View buckets) const {
  const Buffer rotations = context.scratch.take(rotation_spec(), "attention.rotations");
  const LshBuckets& shape = group_->attention.shape();
  draw_lsh_rotations(context.rng.seed, context.rng.layer, lsh().rounds, shape, rotations.view());
  lsh_hash(qk, rotations.view(), lsh().rounds, shape, buckets, context.scratch, context.compute);
}

SavedPtr LshSelfAttention::forward(Context& context, Keep keep, std::span<const ConstView> x, std::span<const View> y,
                                   const Saved* replay) {
  const Index tokens = x[0].dim(0), heads = options_.heads, d = options_.head_dim;
  check_tensor(x[0], {{context.tokens.tokens(), options_.inputs[0].in()}}, "LshSelfAttention's x");
  const auto* earlier = replayed<Kept>(replay);
  auto saved = std::make_unique<Kept>();
  if (earlier) saved->buckets = earlier->buckets, saved->out = earlier->out, saved->lse = earlier->lse;
  Buffer both_spare, bucket_spare, out_spare, lse_spare;
  const auto place = [&](Keep least, Buffer& kept, Buffer& spare, const TensorSpec& spec, const char* tag) {
    Buffer& buffer = keep >= least ? kept : spare;
    buffer = (keep >= least ? context.saved : context.scratch).take(spec, tag);
    return buffer.view();
  };
  if (!saved->out || keep == Keep::all) {
    const View both = place(Keep::all, saved->both, both_spare, {{tokens, 2 * heads * d}}, "attention.qk_v");
    project(context, x[0], both);
    if (!saved->buckets) {
      const View buckets =
          place(Keep::decisions, saved->own_buckets, bucket_spare, bucket_spec(tokens), "attention.buckets");
      hash(context, part(both, 0), buckets);
      saved->buckets = buckets;
    }
    if (!saved->out) {
      const View out = place(Keep::core, saved->own_out, out_spare, {{tokens, heads * d}}, "attention.out");
      const View lse = place(Keep::core, saved->own_lse, lse_spare, {{tokens, heads}, DType::f64}, "attention.lse");
      group_->attention.forward(*PlanOf(*group_, context.tokens), part(both, 0), part(both, 1), saved->buckets, scale_,
                                out.reshape({tokens, heads, d}), lse, context.scratch, context.compute);
      saved->out = out, saved->lse = lse;
    }
  }
  options_.output.forward(context, saved->out, y[0]);
  if (keep < Keep::core) saved->out = saved->lse = {};
  if (keep < Keep::decisions) saved->buckets = {};
  return saved;
}

void LshSelfAttention::backward(Context& context, SavedPtr saved, std::span<const ConstView> x,
                                std::span<const ConstView> dy, std::span<const Gradient> dx) {
  const auto own = claim<Kept>(std::move(saved), "LshSelfAttention");
  PLASMID_CHECK(own->both) << "LshSelfAttention: backward needs Keep::all";
  const Index tokens = x[0].dim(0);
  const Shape by_head{tokens, options_.heads, options_.head_dim};
  const View both = own->both.view();
  const Buffer gradient = context.scratch.take(both.spec(), "attention.dqk_v");
  {
    const Buffer dout = context.scratch.take(own->out.spec(), "attention.dout");
    options_.output.input_gradient(context, dy[0], {dout.view()});
    options_.output.weight_gradient(context, own->out, dy[0]);
    group_->attention.backward(*PlanOf(*group_, context.tokens), part(both, 0), part(both, 1), own->buckets, scale_,
                               own->out.reshape(by_head), own->lse, dout.view().reshape(by_head),
                               part(gradient.view(), 0), part(gradient.view(), 1), context.scratch, context.compute);
  }
  Index column = 0;
  Write write = dx[0].write;
  for (const Affine& input : options_.inputs) {
    const View columns = gradient.view().slice(1, column, column + input.out());
    input.input_gradient(context, columns, {dx[0].view, write});
    input.weight_gradient(context, x[0], columns);
    column += input.out();
    if (write == Write::overwrite) write = Write::accumulate;
  }
}

}  // namespace plasmid
