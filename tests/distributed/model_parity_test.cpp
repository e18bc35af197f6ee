// Whole language models with their sequence sharded over ranks, against numbers that PyTorch computed in f64: on
// threads, and under mpirun with --mpi. Gradients are summed over the ranks and divided once.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "parallel/comm/self.hpp"
#include "parallel/mesh/process_mesh.hpp"
#include "runtime/optim/optimizer.hpp"
#include "tests/support/local_line.hpp"
#include "tests/support/model_run.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/reference.hpp"

namespace plasmid::test {
namespace {

constexpr double kTolerance = 2e-5;  // as on one rank: sharding must not cost accuracy

// The whole store's gradients, and the loss, summed over `group`.
ModelRun::Loss sum_over(Communicator& group, ModelRun& run, ModelRun::Loss loss) {
  Stream stream;
  group.all_reduce(view_of(run.store().gradients()), Reduce::sum, stream).wait(stream);
  group.all_reduce(view_of(std::span(&loss.sum, 1)), Reduce::sum, stream).wait(stream);
  group.all_reduce(view_of(std::span(&loss.counted, 1)), Reduce::sum, stream).wait(stream);
  return loss;
}

void expect_window_parity(const std::filesystem::path& folder, Communicator& ring, Layout layout, Recompute recompute) {
  SCOPED_TRACE(folder.string() + ", rank " + std::to_string(ring.rank()) + " of " + std::to_string(ring.size()));
  const ModelReference reference(folder);
  const auto length = static_cast<Index>(reference.tokens.size());
  const LocalLine line({length}, make_shards(1, length, ring.size(), layout), ring.rank());
  const auto tokens = line.part_of(std::span(reference.tokens)), labels = line.part_of(std::span(reference.labels));
  ModelRun run(folder / "model", ring, recompute);

  const Index vocabulary = run.model().shape().vocabulary;
  const auto logits = run.logits(line.map(), tokens);
  EXPECT_LE(relative_error(logits, line.part_of(std::span(reference.logits), vocabulary)), kTolerance);
  const auto loss = sum_over(ring, run, run.step(line.map(), tokens, labels, 1 / static_cast<double>(length)));
  EXPECT_EQ(loss.counted, length);
  EXPECT_NEAR(loss.sum / static_cast<double>(length), reference.loss, kTolerance * reference.loss);
  for (const ParameterPtr& parameter : run.store().parameters())
    EXPECT_LE(relative_error(run.store().gradient(*parameter).flat<float>(), reference.gradients.at(parameter->name)),
              kTolerance)
        << parameter->name;
}

class ModelParityOnRanks : public testing::TestWithParam<RankSet> {};

TEST_P(ModelParityOnRanks, OwnReferences) {
  on_ranks(GetParam(), [](Communicator& ring) {
    for (const auto& folder : own_model_references())
      for (const Layout layout : {Layout::zigzag, Layout::contiguous})
        for (const Recompute recompute : {Recompute::none, Recompute::core, Recompute::all})
          expect_window_parity(folder, ring, layout, recompute);
  });
}

TEST_P(ModelParityOnRanks, SharedReferences) {
  PLASMID_SKIP_WITHOUT_REFERENCE();
  on_ranks(GetParam(), [](Communicator& ring) {
    for (const auto& folder : shared_model_references())
      expect_window_parity(folder, ring, Layout::zigzag, Recompute::none);
  });
}

PLASMID_INSTANTIATE_ON_RANKS(ModelParityOnRanks, rank_sets());

// What a line of odd lengths, padding and ranks without tokens gives on `ring` is what one rank makes of it.
void expect_equals_one_rank(Communicator& ring, Family family, const std::vector<Index>& documents,
                            const std::vector<std::uint8_t>& key_valid) {
  ModelShape shape{.family = family, .layers = 2, .width = 24, .heads = 3, .positions = 64, .vocabulary = 17};
  shape.tied_head = family == Family::gpt2;
  const Index length = std::accumulate(documents.begin(), documents.end(), Index{0});
  std::vector<std::int32_t> tokens, labels;
  for (Index i = 0; i < length; ++i) {
    tokens.push_back(static_cast<std::int32_t>((i * i + 3 * i) % 17));
    labels.push_back(i % 5 == 4 ? -1 : static_cast<std::int32_t>(7 * i % 17));
  }
  const auto run_on = [&](ModelRun& run, Communicator& group) {
    const LocalLine line(documents, make_shards(1, length, group.size(), Layout::zigzag), group.rank(), key_valid);
    for (float& weight : run.store().weights()) weight *= 5;  // attention far from uniform
    const auto loss = run.step(line.map(), line.part_of(std::span<const std::int32_t>(tokens)),
                               line.part_of(std::span<const std::int32_t>(labels)), 1.0);
    return sum_over(group, run, loss);
  };
  const auto self = make_self_communicator();
  ModelRun alone(shape, 3, *self), sharded(shape, 3, ring);
  const auto want = run_on(alone, *self), got = run_on(sharded, ring);
  EXPECT_EQ(got.counted, want.counted);
  EXPECT_NEAR(got.sum, want.sum, kTolerance * want.sum);
  // A gradient that is zero in exact arithmetic is rounding: held against a thousandth of the largest tensor's.
  const auto norm = [](std::span<const float> x) { return std::sqrt(sum_of_squares(x)); };
  double largest = 0;
  for (const ParameterPtr& parameter : alone.store().parameters())
    largest = std::max(largest, norm(alone.store().gradient(*parameter).flat<float>()));
  const auto& of_sharded = sharded.store().parameters();
  for (std::size_t i = 0; i < of_sharded.size(); ++i) {
    const auto wanted = alone.store().gradient(*alone.store().parameters()[i]).flat<float>();
    const auto found = sharded.store().gradient(*of_sharded[i]).flat<float>();
    std::vector<float> difference(wanted.size());
    for (std::size_t j = 0; j < wanted.size(); ++j) difference[j] = found[j] - wanted[j];
    EXPECT_LE(norm(difference), kTolerance * std::max(norm(wanted), largest / 1000))
        << of_sharded[i]->name << ", " << length << " tokens, rank " << ring.rank() << " of " << ring.size();
  }
}

TEST_P(ModelParityOnRanks, AwkwardLines) {
  on_ranks(GetParam(), [](Communicator& ring) {
    std::vector<std::uint8_t> padded(41, 1), empty_rows(41, 1);
    std::fill(padded.begin() + 23, padded.end(), std::uint8_t{0});
    std::fill_n(empty_rows.begin(), 9, std::uint8_t{0});
    for (const Family family : {Family::gpt2, Family::llama}) {
      expect_equals_one_rank(ring, family, {3}, {});
      expect_equals_one_rank(ring, family, {41}, {});
      expect_equals_one_rank(ring, family, {1, 1, 30, 2, 7}, {});
      expect_equals_one_rank(ring, family, {41}, padded);
      expect_equals_one_rank(ring, family, {41}, empty_rows);
    }
  });
}

// Two windows over dp x cp ranks against the first step of the reference's trajectory.
void expect_first_step(const std::filesystem::path& folder, Communicator& world, int dp) {
  SCOPED_TRACE(folder.string());
  ProcessMesh mesh(world, {.dp = dp, .cp = world.size() / dp});
  const nlohmann::json meta = nlohmann::json::parse(std::ifstream(folder / "meta.json"));
  const nlohmann::json trajectory = nlohmann::json::parse(std::ifstream(folder / "trajectory.json"));
  std::ifstream file(folder / "tokens.bin", std::ios::binary);
  const std::vector<unsigned char> bytes{std::istreambuf_iterator<char>(file), {}};
  const Index length = meta.at("window"), windows = 2 / dp, first = mesh.coordinate(axes::dp) * windows * length;

  Communicator& ring = mesh.along(axes::cp);
  const LocalLine line(std::vector<Index>(static_cast<std::size_t>(windows), length),
                       make_shards(windows, length, ring.size(), Layout::zigzag), ring.rank());
  std::vector<std::int32_t> tokens, labels;
  for (const Index token : line.global()) {
    tokens.push_back(bytes[static_cast<std::size_t>(first + token)]);
    labels.push_back(bytes[static_cast<std::size_t>(first + token) + 1]);
  }
  ModelRun run(folder / "model", ring);
  const double counted = 2 * static_cast<double>(length);
  const auto loss = sum_over(mesh.along(axes::tokens), run, run.step(line.map(), tokens, labels, 1 / counted));
  EXPECT_EQ(static_cast<double>(loss.counted), counted);
  const double want = trajectory["float64"]["loss"][0], want_norm = trajectory["float64"]["grad_norm"][0];
  EXPECT_NEAR(loss.sum / counted, want, 1e-5 * want);
  double squares = 0;
  for (const float gradient : run.store().gradients()) squares += static_cast<double>(gradient) * gradient;
  EXPECT_NEAR(std::sqrt(squares), want_norm, kTolerance * want_norm);
}

TEST(ModelParityOnMesh, FirstStepOfTheTrajectory) {
  PLASMID_SKIP_WITHOUT_REFERENCE();
  const auto run = [](Communicator& world, int dp) {
    for (const auto& folder : shared_model_references()) expect_first_step(folder, world, dp);
  };
  if (mpi_world()) {
    on_ranks(rank_sets().front(), [&](Communicator& world) {
      for (const int dp : {1, 2})
        if (world.size() % dp == 0) run(world, dp);
    });
    return;
  }
  for (const auto& [ranks, dp] : {std::pair{1, 1}, {2, 1}, {2, 2}, {3, 1}, {4, 2}})
    run_ranks(ranks, [&, dp = dp](Communicator& world) { run(world, dp); });
}

}  // namespace
}  // namespace plasmid::test
