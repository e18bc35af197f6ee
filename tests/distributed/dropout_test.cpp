// Dropout is drawn by place in the batch: the same for every layout, pass and replay.
#include <gtest/gtest.h>

#include <cstring>

#include "launcher/trainer/trainer.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/ring_run.hpp"
#include "tests/support/temporary_folder.hpp"

namespace plasmid {
namespace {

using test::AttentionCase;
using test::TokenLine;

class RingDropout : public testing::TestWithParam<test::RankSet> {};

AttentionCase dropping(const TokenLine& line, Index heads, Index kv_heads, Index d) {
  AttentionCase problem = test::problem_of(line, heads, kv_heads, d, 17);
  problem.dropout = {3, dropped_of_65536(0.3)};
  problem.query_tokens = problem.key_tokens = {{0, line.total()}};
  return problem;
}

TEST_P(RingDropout, EqualsOneRankForEveryLine) {
  for (const TokenLine& line : test::token_lines()) {
    const AttentionCase problem = dropping(line, 4, 2, 8);
    const auto exact = test::dense_attention<double>(problem);
    const auto single = test::dense_attention<float>(problem);
    for (const Layout layout : {Layout::contiguous, Layout::zigzag}) {
      const TokenLine split = line.split(GetParam().size, layout);
      test::on_ranks(GetParam(), [&](Communicator& ring) {
        const auto kernel = make_host_kernel();
        const test::RingRun run = test::run_ring(ring, *kernel, split, problem);
        if (ring.rank() > 0 && GetParam().backend == test::Backend::threads) return;
        test::expect_close(run.result, exact, single, 4, line.name);
      });
    }
  }
}

// Equal scores and unit values, one channel a key: out shows which pairs were kept.
TEST_P(RingDropout, DropsTheSamePairsOnAnyNumberOfRanks) {
  constexpr Index kTokens = 75;
  const TokenLine line{"", 1, kTokens, Pattern::causal(), {}, {}, {}};
  AttentionCase problem = dropping(line, 2, 1, kTokens);
  std::fill(problem.q.begin(), problem.q.end(), 0.0f), std::fill(problem.v.begin(), problem.v.end(), 0.0f);
  for (Index j = 0; j < kTokens; ++j) problem.v[static_cast<std::size_t>(j * kTokens + j)] = 1;
  const TokenLine split = line.split(GetParam().size, Layout::zigzag);
  test::on_ranks(GetParam(), [&](Communicator& ring) {
    const auto kernel = make_host_kernel();
    const std::vector<float> out = test::run_ring(ring, *kernel, split, problem).result.out;
    for (Index i = 0; i < kTokens; ++i)
      for (Index h = 0; h < 2; ++h)
        for (Index j = 0; j <= i; ++j)
          ASSERT_EQ(out[static_cast<std::size_t>((i * 2 + h) * kTokens + j)] != 0, problem.kept(i, h, j) != 0)
              << i << ", " << h << ", " << j;
  });
}

PLASMID_INSTANTIATE_ON_RANKS(RingDropout, test::rank_sets());

class TrainingDropout : public testing::Test {
 protected:
  TrainingDropout() {
    if (test::mpi_world()) return;
    std::string bytes;
    std::uint32_t state = 1;
    for (int i = 0; i < 4000; ++i) bytes += static_cast<char>((state = state * 1664525 + 1013904223) >> 27);
    write_bytes(folder_ / "bytes.txt", bytes);
  }
  void SetUp() override {
    if (test::mpi_world()) GTEST_SKIP() << "over MPI the ring is examined";
  }

  Job job(const std::string& family, const std::vector<std::string>& overrides, int ranks) const {
    JobFile file = parse_job_text(
        "run_directory: 'none' model { layers: 2 width: 32 heads: 4 dropout: 0.2 }"
        "data { tokenizer: BYTE sequence_length: 75 } optimizer { learning_rate: 3e-3 }"
        "train { steps: 6 batch: 4 }",
        "j");
    override_field(file, "model.family=" + family);
    override_field(file, "data.files=" + (folder_ / "bytes.txt").string());
    for (const std::string& assignment : overrides) override_field(file, assignment);
    return resolve(file, ranks);
  }

  // Losses of steps (first, 6]; `moved`: weights and moments go to another trainer after step `first`.
  std::vector<double> losses(const std::string& family, std::vector<std::string> overrides, int dp = 1, int cp = 1,
                             Index moved = 0) const {
    overrides.push_back("mesh.dp=" + std::to_string(dp));
    overrides.push_back("mesh.cp=" + std::to_string(cp));
    const Job resolved = job(family, overrides, dp * cp);
    std::vector<double> result;
    test::run_ranks(dp * cp, [&](Communicator& ranks) {
      ProcessMesh mesh(ranks, {dp, cp, 1});
      CorpusOptions options;
      options.files = {resolved.fields.data().files(0)};
      const auto corpus = open_corpus(options);
      auto trainer = std::make_unique<Trainer>(resolved, mesh, *corpus, INT64_MAX);
      trainer->initialize();
      for (Index step = 1; step <= 6; ++step) {
        const double loss = trainer->step(step).loss;
        if (ranks.rank() == 0) result.push_back(loss);
        if (step != moved) continue;
        auto next = std::make_unique<Trainer>(resolved, mesh, *corpus, INT64_MAX);
        const TrainingState from = trainer->state(), to = next->state();
        std::ranges::copy(from.weights, to.weights.begin());
        std::ranges::copy(from.first_moment, to.first_moment.begin());
        std::ranges::copy(from.second_moment, to.second_moment.begin());
        trainer = std::move(next);
      }
    });
    return result;
  }

  TemporaryFolder folder_;
};

TEST_F(TrainingDropout, LossesAreThoseOfOneRankForEveryLayoutAndPass) {
  for (const char* family : {"GPT2", "LLAMA"}) {
    const std::vector<double> one = losses(family, {});
    const auto expect_same = [&](const std::vector<double>& other, const std::string& what) {
      ASSERT_EQ(other.size(), one.size());
      for (std::size_t i = 0; i < one.size(); ++i)
        EXPECT_NEAR(other[i], one[i], 1e-5 * one[i]) << family << " " << what << ", step " << i + 1;
    };
    for (const auto& [dp, cp] : {std::pair(1, 2), std::pair(1, 3), std::pair(1, 4), std::pair(2, 2)})
      expect_same(losses(family, {}, dp, cp), "dp " + std::to_string(dp) + " x cp " + std::to_string(cp));
    expect_same(losses(family, {"train.micro_batch=2"}), "two windows a pass");
    expect_same(losses(family, {"train.micro_batch=4"}), "four windows a pass");
    const std::vector<double> without = losses(family, {"model.dropout=0"});
    EXPECT_GT(std::abs(without[0] - one[0]), 2e-5 * one[0]) << "the first loss is already that of a thinned network";
  }
}

TEST_F(TrainingDropout, RecomputingChangesNoBit) {
  for (const char* family : {"GPT2", "LLAMA"})
    for (const int cp : {1, 2}) {
      const std::vector<double> none = losses(family, {}, 1, cp);
      EXPECT_EQ(losses(family, {"train.recompute=CORE"}, 1, cp), none);
      EXPECT_EQ(losses(family, {"train.recompute=ALL"}, 1, cp), none);
    }
}

TEST_F(TrainingDropout, GoingOnChangesNoBit) {
  EXPECT_EQ(losses("GPT2", {}, 1, 2, 3), losses("GPT2", {}, 1, 2));
  EXPECT_EQ(losses("LLAMA", {}, 1, 1, 3), losses("LLAMA", {}));
}

}  // namespace
}  // namespace plasmid
