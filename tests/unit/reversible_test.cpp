// Reversible layers: exact inverses, gradients equal to those of stored activations, memory that does not grow with
// depth, and what floating-point streams would have cost instead.
#include "runtime/nn/reversible.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "parallel/comm/self.hpp"
#include "runtime/io/safetensors.hpp"
#include "runtime/nn/whole_store.hpp"
#include "runtime/ops/elementwise.hpp"
#include "tests/support/conformance.hpp"
#include "tests/support/conformance_rig.hpp"
#include "tests/support/expect_error.hpp"
#include "tests/support/local_line.hpp"
#include "tests/support/model_run.hpp"
#include "tests/support/reference.hpp"
#include "tests/support/reversible_layers.hpp"

namespace plasmid::test {
namespace {

// A stack with weights, arenas, and two streams with gradients.
class StackRun {
 public:
  StackRun(ReversibleStack& stack, const LocalLine& line, Index width) : StackRun({&stack}, line, width) {}
  StackRun(const std::vector<ReversibleStack*>& stacks, const LocalLine& line, Index width)
      : line_(line),
        parameters_([stacks](const ParameterVisitor& visitor) {
          for (ReversibleStack* stack : stacks) stack->parameters(visitor);
        }),
        shape_{line.tokens(), width} {
    store_.initialize(3);
    for (std::size_t i = 0; i < 2; ++i) {
      streams[i].resize(static_cast<std::size_t>(shape_.count()));
      gradients[i].resize(streams[i].size());
      const auto values = random_direction(streams[i].size(), 11, i),
                 slopes = random_direction(streams[i].size(), 12, i);
      for (std::size_t j = 0; j < values.size(); ++j) {
        streams[i][j].bits = static_cast<std::int32_t>(std::lround(values[j] * 0x1p20));
        gradients[i][j] = static_cast<float>(slopes[j]);
      }
    }
  }
  Context context(bool training = false) {
    return {stream_, saved_, scratch_, store_, {1, 2, 0}, line_.map(), {}, nullptr, nullptr, training};
  }
  View stream(std::size_t i) { return view_of(std::span(streams[i])).reshape(shape_); }
  View gradient(std::size_t i) { return view_of(std::span(gradients[i])).reshape(shape_); }
  WholeStore& store() { return store_; }

  std::vector<Fixed> streams[2];
  std::vector<float> gradients[2];

 private:
  const LocalLine& line_;
  ParametersAlone parameters_;
  Shape shape_;
  Ledger ledger_;
  Arena saved_{Arena::Kind::stack, ledger_}, scratch_{Arena::Kind::pool, ledger_}, pool_{Arena::Kind::pool, ledger_};
  Stream stream_;
  WholeStore store_{parameters_, pool_};
};

bool same_bits(const std::vector<Fixed>& a, const std::vector<Fixed>& b) {
  return std::ranges::equal(a, b, {}, &Fixed::bits, &Fixed::bits);
}

TEST(Reversible, UnwindRestores64LayersToTheBit) {
  const auto ring = make_self_communicator();
  const LocalLine line({50, 47}, {{{0, 97}}}, 0);
  for (const double dropout : {0.0, 0.2}) {
    ReversibleStack stack(reversible_layers({.layers = 64, .dropout = dropout}, *ring));
    StackRun run(stack, line, 32);
    const std::vector<Fixed> before[] = {run.streams[0], run.streams[1]};
    Context context = run.context(true);
    SavedPtr kept = stack.forward(context, Keep::decisions, run.stream(0), run.stream(1));
    EXPECT_FALSE(same_bits(run.streams[0], before[0]));
    stack.unwind(context, std::move(kept), run.stream(0), run.stream(1), run.gradient(0), run.gradient(1));
    for (std::size_t i = 0; i < 2; ++i) EXPECT_TRUE(same_bits(run.streams[i], before[i])) << "stream " << i;
  }
}

// Each layer's output is stored on the way up and laid under its layer on the way down.
TEST(Reversible, GradientsEqualThoseOfStoredActivationsToTheBit) {
  constexpr Index kLayers = 16;
  const auto ring = make_self_communicator();
  const LocalLine line(61);
  ReversibleStack whole(reversible_layers({.layers = kLayers}, *ring));
  StackRun run(whole, line, 32);
  Context context = run.context();
  SavedPtr kept = whole.forward(context, Keep::decisions, run.stream(0), run.stream(1));
  whole.unwind(context, std::move(kept), run.stream(0), run.stream(1), run.gradient(0), run.gradient(1));

  std::vector<std::unique_ptr<ReversibleStack>> layers;
  std::vector<ReversibleStack*> pointers;
  for (Index i = 0; i < kLayers; ++i) {
    layers.push_back(std::make_unique<ReversibleStack>(reversible_layers({.layers = 1}, *ring, i)));
    pointers.push_back(layers.back().get());
  }
  StackRun stored(pointers, line, 32);
  Context stored_context = stored.context();
  std::vector<SavedPtr> saved;
  std::vector<std::array<std::vector<Fixed>, 2>> outputs;
  for (const auto& layer : layers) {
    saved.push_back(layer->forward(stored_context, Keep::decisions, stored.stream(0), stored.stream(1)));
    outputs.push_back({stored.streams[0], stored.streams[1]});
  }
  for (std::size_t i = layers.size(); i-- > 0;) {
    for (std::size_t s = 0; s < 2; ++s) std::ranges::copy(outputs[i][s], stored.streams[s].begin());
    layers[i]->unwind(stored_context, std::move(saved[i]), stored.stream(0), stored.stream(1), stored.gradient(0),
                      stored.gradient(1));
  }
  for (std::size_t s = 0; s < 2; ++s) EXPECT_EQ(run.gradients[s], stored.gradients[s]) << "stream " << s;
  EXPECT_TRUE(std::ranges::equal(run.store().gradients(), stored.store().gradients()));
}

// The same layers on f32 streams, inverted by subtraction: what is rebuilt is not what was there.
TEST(Reversible, FloatStreamsDrift) {
  constexpr Index kLayers = 64, kTokens = 61, kWidth = 32;
  const auto ring = make_self_communicator();
  const LocalLine line(kTokens);
  const std::vector<Branches> layers = branch_modules({.layers = kLayers}, *ring);
  ParametersAlone parameters([&](const ParameterVisitor& visitor) {
    for (const Branches& layer : layers) layer.attention->parameters(visitor), layer.mlp->parameters(visitor);
  });
  Ledger ledger;
  Arena saved(Arena::Kind::stack, ledger), scratch(Arena::Kind::pool, ledger), pool(Arena::Kind::pool, ledger);
  WholeStore store(parameters, pool);
  store.initialize(3);
  Stream stream;
  Context context{stream, saved, scratch, store, {}, line.map(), {}, nullptr, nullptr};
  const Shape shape{kTokens, kWidth};
  std::vector<float> x[2], f(static_cast<std::size_t>(shape.count()));
  for (std::size_t i = 0; i < 2; ++i)
    for (const double value : random_direction(f.size(), 11, i)) x[i].push_back(static_cast<float>(value));
  const std::vector<float> start[] = {x[0], x[1]};
  const auto view = [&](std::vector<float>& floats) { return view_of(std::span(floats)).reshape(shape); };
  const auto apply = [&](Module& branch, std::vector<float>& from, std::vector<float>& to, float sign) {
    (void)branch.forward(context, Keep::nothing, ConstView(view(from)), view(f));
    for (std::size_t i = 0; i < f.size(); ++i) to[i] += sign * f[i];
  };
  for (const Branches& layer : layers) apply(*layer.attention, x[1], x[0], 1), apply(*layer.mlp, x[0], x[1], 1);
  for (std::size_t i = layers.size(); i-- > 0;)
    apply(*layers[i].mlp, x[0], x[1], -1), apply(*layers[i].attention, x[1], x[0], -1);
  double worst = 0;
  for (std::size_t i = 0; i < 2; ++i) {
    std::vector<double> wanted(start[i].begin(), start[i].end());
    worst = std::max(worst, relative_error(x[i], wanted));
  }
  RecordProperty("relative_drift", std::to_string(worst));
  std::printf("f32 streams, rebuilt through %d layers: off by %.1e of their norm\n", static_cast<int>(kLayers), worst);
  EXPECT_GT(worst, 1e-6) << "far more than one rounding, 6e-8";
}

TEST(Reversible, Conforms) {
  const auto ring = make_self_communicator();
  const LocalLine line({12, 9}, {{{0, 21}}}, 0);
  for (const Keep keep : {Keep::decisions, Keep::core}) {
    // 24 fraction bits: a step is f32's epsilon at 1, so that the differences see no steps.
    const double dropout = keep == Keep::core ? 0.3 : 0.0;
    ReversibleSequence sequence =
        reversible_sequence({.layers = 2, .hidden = 48, .dropout = dropout, .tile = 8, .format = {24}}, *ring, keep);
    ConformanceOptions options{.in = {{{21, 32}}, {{21, 32}}}, .tokens = &line.map(), .integer = {}, .sum = {}};
    options.depth = 16;
    options.training = dropout > 0;
    EXPECT_EQ(check_conformance(sequence, options), std::vector<std::string>{});
  }
}

TEST(Reversible, WithoutTokens) {
  const auto ring = make_self_communicator();
  const LocalLine line({}, {{}}, 0);
  ReversibleSequence sequence = reversible_sequence({.layers = 2}, *ring);
  const ConformanceOptions options{.in = {{{0, 32}}, {{0, 32}}}, .tokens = &line.map(), .integer = {}, .sum = {}};
  EXPECT_EQ(check_conformance(sequence, options), std::vector<std::string>{});
}

TEST(Reversible, ActivationsTakeTheSameMemoryAtAnyDepth) {
  const auto ring = make_self_communicator();
  const LocalLine line(500);
  const auto peak = [&](Index layers) {
    ReversibleSequence sequence = reversible_sequence({.layers = layers, .tile = 128}, *ring);
    const ConformanceOptions options{.in = {{{500, 32}}, {{500, 32}}}, .tokens = &line.map(), .integer = {}, .sum = {}};
    ConformanceRig rig(sequence, options);
    rig.ledger.restart_peak();
    const Index before = rig.ledger.live_bytes();
    rig.backward(rig.forward_and_clear(Keep::all));
    return rig.ledger.peak_bytes() - before;
  };
  const Index shallow = peak(6), deep = peak(24);
  EXPECT_EQ(deep, shallow);
}

TEST(Reversible, NamesTheBranchAndTheValueThatLeaveTheRange) {
  const auto ring = make_self_communicator();
  const LocalLine line(10);
  ReversibleStack stack(reversible_layers({.layers = 2}, *ring));
  StackRun run(stack, line, 32);
  for (const ParameterPtr& parameter : run.store().parameters())
    if (parameter->name == "layers.1.ffn.out.bias") run.store().weight(*parameter).flat<float>()[7] = -3000;
  Context context = run.context();
  expect_error(
      ErrorCode::software,
      {"layer 1, feed-forward: the reversible stream comes to -3", "11 bits before the point", "less than 2048"},
      [&] { (void)stack.forward(context, Keep::nothing, run.stream(0), run.stream(1)); });
}

// 6 layers against numbers computed by PyTorch in f64.
TEST(Reversible, Parity) {
  PLASMID_SKIP_WITHOUT_REFERENCE();
  const auto folder = reference_folder() / "reversible";
  const SafetensorsFile weights(folder / "weights.safetensors"), gradients(folder / "grads.safetensors"),
      io(folder / "io.safetensors");
  const Shape shape{192, 32};  // two samples end to end
  const LocalLine line({96, 96}, {{{0, 192}}}, 0);
  const auto ring = make_self_communicator();
  for (const int fraction_bits : {20, 24}) {
    const FixedPoint format{fraction_bits};
    ReversibleSequence sequence = reversible_sequence({.format = format}, *ring);
    ConformanceOptions options{.in = {{shape}, {shape}}, .tokens = &line.map(), .integer = {}, .sum = {}};
    ConformanceRig rig(sequence, options);
    ASSERT_EQ(rig.store.parameters().size(), weights.names().size());
    Stream stream;
    for (const ParameterPtr& parameter : rig.store.parameters())
      ops::copy(weights.tensor(parameter->name), rig.store.weight(*parameter), stream);
    for (std::size_t i = 0; i < 2; ++i) {
      ops::copy(io.tensor(i ? "x2" : "x1").reshape(shape), rig.x[i].view(), stream);
      ops::copy(io.tensor(i ? "dy2" : "dy1").reshape(shape), rig.dy[i].view(), stream);
    }
    rig.backward(rig.forward_and_clear(Keep::all));
    // Each branch's sum is rounded by half a step at most, against streams of size one.
    const double tolerance = 2e-5 + 12 * format.step();
    for (std::size_t i = 0; i < 2; ++i) {
      EXPECT_LE(relative_error(rig.y[i].view().flat<float>(), io.tensor(i ? "y2" : "y1").flat<double>()), tolerance);
      EXPECT_LE(relative_error(rig.dx[i].view().flat<float>(), io.tensor(i ? "dx2" : "dx1").flat<double>()), tolerance);
    }
    for (const ParameterPtr& parameter : rig.store.parameters()) {
      const auto found = rig.store.gradient(*parameter).flat<float>();
      if (parameter->name.ends_with("attn.k.bias")) {  // a shift of all scores of a row: no gradient
        const auto weight = doubles(gradients.tensor(parameter->name.substr(0, parameter->name.size() - 4) + "weight"));
        EXPECT_LE(norm(std::vector<double>(found.begin(), found.end())), tolerance * norm(weight)) << parameter->name;
      } else {
        EXPECT_LE(relative_error(found, gradients.tensor(parameter->name).flat<double>()), tolerance)
            << parameter->name;
      }
    }
  }
}

}  // namespace
}  // namespace plasmid::test
