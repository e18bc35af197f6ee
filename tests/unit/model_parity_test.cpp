// Whole language models on one rank against the logits, loss and gradients that PyTorch computed in f64.
#include <gtest/gtest.h>

#include <cmath>

#include "parallel/comm/self.hpp"
#include "tests/support/local_line.hpp"
#include "tests/support/model_run.hpp"
#include "tests/support/reference.hpp"

namespace plasmid::test {
namespace {

// What a forward and backward in f32 may differ from f64: PyTorch's own is off by 1e-6 to 2e-6.
constexpr double kTolerance = 2e-5;

void expect_parity(const std::filesystem::path& folder, Recompute recompute) {
  SCOPED_TRACE(folder.string());
  const ModelReference reference(folder);
  const auto ring = make_self_communicator();
  ModelRun run(folder / "model", *ring, recompute);
  const auto length = static_cast<Index>(reference.tokens.size());
  const LocalLine line(length);

  EXPECT_LE(relative_error(run.logits(line.map(), reference.tokens), reference.logits), kTolerance);
  const auto loss = run.step(line.map(), reference.tokens, reference.labels, 1 / static_cast<double>(length));
  EXPECT_EQ(loss.counted, length);
  EXPECT_NEAR(loss.sum / static_cast<double>(length), reference.loss, kTolerance * reference.loss);
  ASSERT_EQ(reference.gradients.size(), run.store().parameters().size());
  for (const ParameterPtr& parameter : run.store().parameters())
    EXPECT_LE(relative_error(run.store().gradient(*parameter).flat<float>(), reference.gradients.at(parameter->name)),
              kTolerance)
        << parameter->name;
}

TEST(ModelParity, OwnReferences) {
  for (const auto& folder : own_model_references())
    for (const Recompute recompute : {Recompute::none, Recompute::core, Recompute::all})
      expect_parity(folder, recompute);
}

TEST(ModelParity, SharedReferences) {
  PLASMID_SKIP_WITHOUT_REFERENCE();
  for (const auto& folder : shared_model_references()) expect_parity(folder, Recompute::none);
}

}  // namespace
}  // namespace plasmid::test
