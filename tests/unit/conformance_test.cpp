// The conformance routine itself: a sound module passes, and each way to be wrong fails the check that is meant for it.
#include "tests/support/conformance.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "runtime/nn/saved.hpp"
#include "tests/support/local_line.hpp"

namespace plasmid::test {
namespace {

enum class Fault {
  none,
  last_row_unwritten,
  writes_beyond,
  wrong_input_gradient,
  wrong_parameter_gradient,
  quadratic,  // gradients of a square, sound, but not linear
  overwrites_parameter_gradient,
  always_overwrites,
  writes_when_skipped,
  replay_drifts,
  keeps_in_inference,
  clears_gradients_in_forward,
  silent,
  cost_too_low,
  cost_too_high,
  hoards_scratch
};

// y = gain * x (or gain * x^2), per channel, with one fault.
class Faulty final : public Module {
 public:
  Faulty(Fault fault, Index width) : fault_(fault), gain_(make_parameter("gain", {width}, {1, 0})) {}
  std::vector<TensorSpec> outputs(std::span<const TensorSpec> in) const override { return {in[0]}; }

  Cost cost(std::span<const TensorSpec> in, Keep keep) const override {
    const Index x = arena_bytes(in[0]);
    const Index claimed = fault_ == Fault::cost_too_low ? x - 64 : fault_ == Fault::cost_too_high ? x + x / 8 : x;
    return {.saved = keep == Keep::all ? x : 0, .scratch = keep == Keep::all ? claimed : 0, .peak = 0};
  }
  void parameters(const ParameterVisitor& visitor) override { visitor(gain_); }

  SavedPtr forward(Context& context, Keep keep, std::span<const ConstView> x, std::span<const View> y,
                   const Saved* replay) override {
    auto saved = std::make_unique<Copy>();
    if (keep == Keep::all || fault_ == Fault::keeps_in_inference)
      saved->x = context.saved.take(x[0].spec(), "faulty.x");
    if (fault_ == Fault::hoards_scratch) hoard().push_back(context.scratch.take({{4}}, "faulty.hoard"));
    if (fault_ == Fault::clears_gradients_in_forward)
      for (float& value : context.weights.gradient(*gain_).flat<float>()) value = 0;
    const Lease lease(context.weights, *gain_, context.compute);
    const auto gain = lease.view().flat<float>(), from = x[0].flat<float>();
    const auto to = y[0].flat<float>();
    const std::size_t width = gain.size();
    for (std::size_t i = 0; i < from.size(); ++i) {
      if (fault_ == Fault::last_row_unwritten && i + width >= from.size()) break;
      to[i] = gain[i % width] * (fault_ == Fault::quadratic ? from[i] * from[i] : from[i]);
      if (fault_ == Fault::replay_drifts && replay) to[i] *= 1.0001f;
    }
    if (fault_ == Fault::writes_beyond) to.data()[to.size()] = 0;
    if (saved->x) std::ranges::copy(from, saved->x.view().flat<float>().begin());
    return saved;
  }

  void backward(Context& context, SavedPtr saved, std::span<const ConstView>, std::span<const ConstView> dy,
                std::span<const Gradient> dx) override {
    const auto own = claim<Copy>(std::move(saved), "Faulty");
    const Buffer temporary = context.scratch.take(dy[0].spec(), "faulty.temporary");
    const Lease lease(context.weights, *gain_, context.compute);
    const std::span<const float> gain = lease.view().flat<float>(), x = own->x.view().flat<float>();
    const std::span<const float> from = dy[0].flat<float>();
    const std::span<float> dgain = context.weights.gradient(*gain_).flat<float>();
    const std::size_t width = gain.size();
    if (fault_ == Fault::overwrites_parameter_gradient) std::ranges::fill(dgain, 0.0f);
    Write write =
        fault_ == Fault::always_overwrites && dx[0].write == Write::accumulate ? Write::overwrite : dx[0].write;
    if (fault_ == Fault::writes_when_skipped) write = dx[0].write == Write::skip ? Write::overwrite : write;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const bool square = fault_ == Fault::quadratic;
      dgain[i % width] +=
          from[i] * (square ? x[i] * x[i] : x[i]) * (fault_ == Fault::wrong_parameter_gradient ? 1.01f : 1);
      if (write == Write::skip) continue;
      float& to = dx[0].view.flat<float>()[i];
      const float value = from[i] * gain[i % width] * (square ? 2 * x[i] : 1) *
                          (fault_ == Fault::wrong_input_gradient && i == 3 ? 1.1f : 1);
      to = write == Write::accumulate ? to + value : value;
    }
    if (fault_ != Fault::silent) announce(context, *gain_);
  }

 private:
  struct Copy final : Saved {
    Buffer x;
  };
  Fault fault_;
  static std::vector<Buffer>& hoard() {  // never destroyed: the ledger of its bytes is gone by then
    static auto* buffers = new std::vector<Buffer>;
    return *buffers;
  }
  ParameterPtr gain_;
};

std::vector<std::string> examine(Fault fault) {
  constexpr Index kTokens = 12, kWidth = 8;
  const LocalLine line(kTokens);
  Faulty module(fault, kWidth);
  return check_conformance(
      module, {.in = {{{kTokens, kWidth}}}, .tokens = &line.map(), .integer = {}, .linear = true, .sum = {}});
}

struct Case {
  Fault fault;
  std::string check;
};
class FaultyModule : public testing::TestWithParam<Case> {};

TEST_P(FaultyModule, FailsItsCheck) {
  const std::vector<std::string> failures = examine(GetParam().fault);
  const auto hit =
      std::ranges::count_if(failures, [](const std::string& line) { return line.starts_with(GetParam().check); });
  EXPECT_GT(hit, 0) << GetParam().check << " did not fail; " << testing::PrintToString(failures);
}

INSTANTIATE_TEST_SUITE_P(
    , FaultyModule,
    testing::Values(Case{Fault::last_row_unwritten, "outputs"}, Case{Fault::writes_beyond, "outputs"},
                    Case{Fault::wrong_input_gradient, "derivative: input 0"},
                    Case{Fault::wrong_parameter_gradient, "derivative: gain"}, Case{Fault::quadratic, "adjoint"},
                    Case{Fault::overwrites_parameter_gradient, "accumulate: gain"},
                    Case{Fault::always_overwrites, "accumulate: input 0"},
                    Case{Fault::writes_when_skipped, "accumulate"}, Case{Fault::replay_drifts, "replay"},
                    Case{Fault::keeps_in_inference, "inference"}, Case{Fault::clears_gradients_in_forward, "inference"},
                    Case{Fault::silent, "announce"}, Case{Fault::cost_too_low, "cost"},
                    Case{Fault::cost_too_high, "cost"}, Case{Fault::hoards_scratch, "returned"}));

TEST(Conformance, PassesASoundModule) { EXPECT_EQ(examine(Fault::none), std::vector<std::string>{}); }

TEST(Conformance, AcceptsTheGradientOfASquare) {  // nonlinear: only the adjoint identity may fail
  for (const std::string& line : examine(Fault::quadratic)) EXPECT_TRUE(line.starts_with("adjoint")) << line;
}

}  // namespace
}  // namespace plasmid::test
