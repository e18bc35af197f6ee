// Teams of 1 to 64 threads on shapes that are smaller than the team: the same bits as one thread gives, and no more
// memory than cost() tells of a team of that size.
#include <gtest/gtest.h>
#include <omp.h>

#include <cstring>
#include <numeric>

#include "parallel/comm/self.hpp"
#include "runtime/ops/cross_entropy.hpp"
#include "runtime/optim/optimizer.hpp"
#include "tests/support/local_line.hpp"
#include "tests/support/model_run.hpp"
#include "tests/support/padded.hpp"

namespace plasmid {
namespace {

constexpr int kTeams[] = {2, 3, 7, 16, 64};

class Team {
 public:
  explicit Team(int threads) : before_(omp_get_max_threads()) { omp_set_num_threads(threads); }
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;
  ~Team() { omp_set_num_threads(before_); }

 private:
  int before_;
};

struct Trained {
  double loss = 0;
  std::vector<float> weights, gradients;
  Index arena_bytes = 0, cost = 0;
};

// Two steps: forward, backward, AdamW; then the gradients of a third.
Trained train(const ModelShape& shape, const std::vector<Index>& documents, int threads) {
  const Team team(threads);
  const auto self = make_self_communicator();
  test::ModelRun run(shape, 3, *self);
  const Index tokens = std::accumulate(documents.begin(), documents.end(), Index{0});
  const test::LocalLine line(documents, {{{0, tokens}}}, 0);
  std::vector<std::int32_t> inputs, labels;
  for (Index t = 0; t < tokens; ++t) {
    inputs.push_back(static_cast<std::int32_t>(t * t % shape.vocabulary));
    labels.push_back(t % 9 == 4 ? -1 : static_cast<std::int32_t>((t + 1) * (t + 1) % shape.vocabulary));
  }
  const Index state = run.ledger().live_bytes();
  std::vector<float> first(run.store().weights().size()), second(first);
  Trained trained;
  for (Index step = 1; step <= 3; ++step) {
    trained.loss = run.step(line.map(), inputs, labels, 1.0 / static_cast<double>(tokens)).sum;
    if (step < 3) adamw_step({}, step, 1, run.store().weights(), run.store().gradients(), first, second);
  }
  trained.weights.assign(run.store().weights().begin(), run.store().weights().end());
  trained.gradients.assign(run.store().gradients().begin(), run.store().gradients().end());
  trained.arena_bytes = run.ledger().peak_bytes() - state;
  const TensorSpec in[] = {{{tokens}, DType::i32}, {{tokens}, DType::i32}};
  trained.cost = run.model().cost(in, Keep::all).together();
  return trained;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

void expect_equal_teams(const ModelShape& shape, const std::vector<Index>& documents) {
  const Trained alone = train(shape, documents, 1);
  for (const int threads : kTeams) {
    const Trained team = train(shape, documents, threads);
    EXPECT_EQ(team.loss, alone.loss) << threads << " threads";
    EXPECT_TRUE(same_bits(team.weights, alone.weights)) << threads << " threads";
    EXPECT_TRUE(same_bits(team.gradients, alone.gradients)) << threads << " threads";
    EXPECT_LE(team.arena_bytes, team.cost) << threads << " threads";
  }
}

TEST(Teams, TrainAGptToTheSameBits) {
  expect_equal_teams({.layers = 1, .width = 48, .heads = 3, .positions = 200, .vocabulary = 64}, {150});
}

TEST(Teams, TrainALlamaOnPackedDocumentsToTheSameBits) {
  expect_equal_teams(
      {.family = Family::llama, .layers = 2, .width = 32, .heads = 4, .kv_heads = 2, .positions = 99, .vocabulary = 17},
      {1, 60, 2, 36});
}

TEST(Teams, TrainOnOneToken) {
  expect_equal_teams({.layers = 1, .width = 16, .heads = 1, .positions = 4, .vocabulary = 5}, {1});
}

}  // namespace
}  // namespace plasmid
