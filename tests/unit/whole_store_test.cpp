#include "runtime/nn/whole_store.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace plasmid {
namespace {

struct Holder : Module {  // only its parameters matter here
  std::vector<ParameterPtr> owned;
  std::vector<TensorSpec> outputs(std::span<const TensorSpec>) const override { return {}; }
  Cost cost(std::span<const TensorSpec>, Keep) const override { return {}; }
  void parameters(const ParameterVisitor& visit) override { std::ranges::for_each(owned, visit); }
  SavedPtr forward(Context&, Keep, std::span<const ConstView>, std::span<const View>, const Saved*) override {
    return {};
  }
  void backward(Context&, SavedPtr, std::span<const ConstView>, std::span<const ConstView>,
                std::span<const Gradient>) override {}
};

std::vector<float> initial_weight(const ParameterPtr& parameter, std::vector<ParameterPtr> before) {
  Ledger ledger;
  Arena pool(Arena::Kind::pool, ledger);
  Holder holder;
  holder.owned = std::move(before);
  holder.owned.push_back(parameter);
  WholeStore store(holder, pool);
  store.initialize(7);
  const auto values = store.weight(*parameter).flat<float>();
  return {values.begin(), values.end()};
}

TEST(WholeStore, InitialWeightsDependOnSeedAndNameNotOnPlace) {
  const auto make = [] { return make_parameter("w", {5, 7}, {0, 0.5f}); };
  EXPECT_EQ(initial_weight(make(), {}), initial_weight(make(), {make_parameter("other", {3}, {1, 0})}));
  EXPECT_NE(initial_weight(make(), {}), initial_weight(make_parameter("v", {5, 7}, {0, 0.5f}), {}));
}

TEST(WholeStore, SlicesAreCutsOfTheWhole) {
  const auto whole = initial_weight(make_parameter("w", {6, 4}, {0, 1}), {});
  for (const int dim : {0, 1})
    for (const Index slice : {0, 1}) {
      const ParameterPtr part = make_parameter("w", {6, 4}, {0, 1});
      part->sliced_dim = dim, part->slices = 2, part->slice = slice;
      const auto values = initial_weight(part, {});
      const Shape local = part->local_shape();
      for (Index row = 0; row < local[0]; ++row)
        for (Index column = 0; column < local[1]; ++column) {
          const Index r = row + (dim == 0 ? 3 * slice : 0), c = column + (dim == 1 ? 2 * slice : 0);
          EXPECT_EQ(values[static_cast<std::size_t>(row * local[1] + column)],
                    whole[static_cast<std::size_t>(r * 4 + c)]);
        }
    }
}

TEST(WholeStore, AdoptsTiedWeightsOnce) {
  Ledger ledger;
  Arena pool(Arena::Kind::pool, ledger);
  Holder holder;
  const ParameterPtr tied = make_parameter("tied", {4, 4}, {0, 1});
  holder.owned = {tied, make_parameter("gain", {4}, {1, 0}), tied};
  WholeStore store(holder, pool);
  EXPECT_EQ(store.parameters().size(), 2u);
  EXPECT_EQ(store.size(), 32);
  store.initialize(1);
  EXPECT_TRUE(std::ranges::all_of(store.weight(*holder.owned[1]).flat<float>(), [](float gain) { return gain == 1; }));
}

}  // namespace
}  // namespace plasmid
