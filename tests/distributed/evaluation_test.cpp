// The held-out loss of a trainer's weights, without dropout: against the definition, between layouts, and beside the
// training it is in.
#include "launcher/trainer/evaluation.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "launcher/trainer/trainer.hpp"
#include "parallel/comm/self.hpp"
#include "runtime/data/part_of_corpus.hpp"
#include "tests/support/model_run.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/temporary_folder.hpp"

namespace plasmid {
namespace {

// Three records; the split cuts the second.
std::string genome() {
  std::mt19937 random(7);
  std::string text;
  for (const int letters : {150, 200, 61}) {
    text += ">r\n";
    for (int i = 0; i < letters; ++i) text += "ACGTNacgt"[random() % 9];
    text += "\n";
  }
  return text;
}

class EvaluationTest : public testing::TestWithParam<test::RankSet> {
 protected:
  EvaluationTest() { write_bytes(folder_ / "genome.fa", genome()); }

  Job job(const Degrees& mesh, bool pack) const {
    const auto text = [](int number) { return std::to_string(number); };
    JobFile file = parse_job_text(
        "run_directory: 'not written'\n"
        "model { family: LLAMA layers: 2 width: 16 heads: 2 dropout: 0.2 }\n"
        "data { tokenizer: NUCLEOTIDE sequence_length: 24 lower_case: MASK held_out_fraction: 0.4 }\n"
        "optimizer { learning_rate: 1e-2 } train { steps: 4 evaluate_every: 1 }\n",
        "j");
    override_field(file, "data.files=" + (folder_ / "genome.fa").string());
    override_field(file, pack ? "data.pack=true" : "data.pack=false");
    override_field(file, "mesh.dp=" + text(mesh.dp));
    override_field(file, "mesh.cp=" + text(mesh.cp));
    override_field(file, "train.batch=12");  // of 1, 2, 3 and 4 groups
    override_field(file, "train.micro_batch=" + text(12 % (2 * mesh.dp) == 0 ? 2 : 1));
    return resolve(file, mesh.dp * mesh.cp);
  }

  std::pair<std::unique_ptr<Corpus>, std::unique_ptr<Corpus>> data() const {
    const std::shared_ptr<Corpus> whole =
        open_corpus({{folder_ / "genome.fa"}, Tokenizer::nucleotide, LowerCase::mask, {}});
    const Split split = split_line(whole->size(), 0.4);
    return {part_of(whole, split.training), part_of(whole, split.held_out)};
  }

  struct Result {
    LossSums held_out;           // after the last step
    std::vector<double> losses;  // of training
    std::vector<float> weights, first_moment, second_moment;
  };
  Result train(Communicator& ranks, const Degrees& degrees, bool pack, bool evaluates) const {
    const Job job = this->job(degrees, pack);
    const auto [training, held_out] = data();
    ProcessMesh mesh(ranks, degrees);
    Trainer trainer(job, mesh, *training, INT64_MAX);
    trainer.initialize();
    Evaluation evaluation(job.fields, mesh, *held_out);
    Result result;
    const auto evaluate = [&] { return *evaluation.run(trainer.forward_parts(), [] { return false; }); };
    for (Index step = 1; step <= 4; ++step) {
      if (evaluates) evaluate();
      result.losses.push_back(trainer.step(step).loss);
    }
    result.held_out = evaluate();
    EXPECT_EQ(evaluate().loss, result.held_out.loss) << "the same layout, the same bits";
    EXPECT_LE(trainer.ledger().peak_bytes(), trainer.step_bytes());
    const TrainingState state = trainer.state();
    result.weights.assign(state.weights.begin(), state.weights.end());
    result.first_moment.assign(state.first_moment.begin(), state.first_moment.end());
    result.second_moment.assign(state.second_moment.begin(), state.second_moment.end());
    return result;
  }

  TemporaryFolder folder_;
};

// Every way to lay the ranks out over dp and cp.
std::vector<Degrees> meshes_of(int ranks) {
  std::vector<Degrees> meshes;
  for (int dp = 1; dp <= ranks; ++dp)
    if (ranks % dp == 0 && 12 % dp == 0) meshes.push_back({dp, ranks / dp, 1});
  return meshes;
}

// The definition: the logits of each stretch of tokens that sees itself alone, and -log softmax of the next token where
// it counts. A stretch ends with its window and with its record.
test::ModelRun::Loss by_definition(Corpus& corpus, const ModelShape& shape, std::span<const float> weights,
                                   Index length, bool pack) {
  const auto self = make_self_communicator();
  test::ModelRun run(shape, 1, *self);
  std::ranges::copy(weights, run.store().weights().begin());
  const Corpus::Piece all = corpus.read(0, corpus.size());
  std::vector<Index> records = corpus.record_begins(0, corpus.size());
  records.push_back(corpus.size());
  test::ModelRun::Loss total;
  for (Index begin = 0, in_window = 0, end = 0; begin < corpus.size(); begin = end) {
    const Index record_end = *std::ranges::upper_bound(records, begin);
    end = std::min(record_end, begin + length - in_window);
    in_window = (in_window + end - begin) % length;
    if (!pack && end == record_end) in_window = 0;
    const auto count = static_cast<std::size_t>(end - begin);
    const std::vector<std::int32_t> tokens(all.tokens.begin() + begin, all.tokens.begin() + end), zero(count, 0);
    std::vector<std::int32_t> position(count);
    std::iota(position.begin(), position.end(), 0);
    const std::vector<std::vector<Range>> shards = {{{0, end - begin}}};
    const std::vector<Index> documents = {0, end - begin};
    const TokenMap map{view_of(std::span<const std::int32_t>(position)),
                       view_of(std::span(zero)),
                       view_of(std::span(zero)),
                       shards,
                       0,
                       documents,
                       {}};
    const std::vector<float> logits = run.logits(map, tokens);
    for (Index i = 0; i < end - begin; ++i) {
      const Index label = begin + i + 1;
      if (label == record_end || !all.counts[static_cast<std::size_t>(label)]) continue;
      const float* row = logits.data() + i * shape.vocabulary;
      double sum = 0;
      for (Index v = 0; v < shape.vocabulary; ++v) sum += std::exp(static_cast<double>(row[v]));
      total.sum += std::log(sum) - static_cast<double>(row[all.tokens[static_cast<std::size_t>(label)]]);
      ++total.counted;
    }
  }
  return total;
}

// Relative. A logit is a sum over 16 channels of numbers that went through 2 layers, each rounded to float32 in an
// order that blocks and hops decide: a few epsilons of 6e-8, with either sign, and the sum over a hundred labels
// averages them.
constexpr double kRounding = 4 * std::numeric_limits<float>::epsilon();

TEST_P(EvaluationTest, IsTheDefinitionOnEveryLayoutAndChangesNothing) {
  for (const bool pack : {true, false}) {
    const auto self = make_self_communicator();
    const Result alone = train(*self, {}, pack, false);
    const auto held_out = data().second;
    const auto expected = by_definition(*held_out, job({}, pack).shape, alone.weights, 24, pack);
    ASSERT_GT(expected.counted, 50);
    EXPECT_EQ(alone.held_out.tokens, expected.counted);
    EXPECT_NEAR(alone.held_out.loss, expected.sum, kRounding * expected.sum);
    test::on_ranks(GetParam(), [&](Communicator& ranks) {
      for (const Degrees& mesh : meshes_of(ranks.size())) {
        SCOPED_TRACE(testing::Message() << "dp " << mesh.dp << ", cp " << mesh.cp << (pack ? ", packed" : ""));
        const Result without = train(ranks, mesh, pack, false), with = train(ranks, mesh, pack, true);
        EXPECT_EQ(with.losses, without.losses);
        EXPECT_EQ(with.weights, without.weights);
        EXPECT_EQ(with.first_moment, without.first_moment);
        EXPECT_EQ(with.second_moment, without.second_moment);
        EXPECT_EQ(with.held_out.loss, without.held_out.loss);
        // These weights are of another layout's training: the definition again, of these.
        const auto own = by_definition(*held_out, job({}, pack).shape, with.weights, 24, pack);
        EXPECT_EQ(with.held_out.tokens, own.counted);
        EXPECT_NEAR(with.held_out.loss, own.sum, kRounding * own.sum);
      }
    });
  }
}

TEST_P(EvaluationTest, StopsOnAllRanksWhenOneIsAsked) {
  test::on_ranks(GetParam(), [&](Communicator& ranks) {
    const Degrees degrees{1, ranks.size(), 1};
    const Job job = this->job(degrees, true);
    const auto [training, held_out] = data();
    ProcessMesh mesh(ranks, degrees);
    Trainer trainer(job, mesh, *training, INT64_MAX);
    trainer.initialize();
    Evaluation evaluation(job.fields, mesh, *held_out);
    int passes = 0;
    const auto second_pass_of_last = [&] { return ++passes == 2 && ranks.rank() == ranks.size() - 1; };
    EXPECT_FALSE(evaluation.run(trainer.forward_parts(), second_pass_of_last).has_value());
    EXPECT_EQ(passes, 2);
    EXPECT_TRUE(evaluation.run(trainer.forward_parts(), [] { return false; }).has_value());
  });
}

// As much as inference needs: weights alone, no activation that outlives its layer, and the bound that is checked
// before it starts.
TEST_P(EvaluationTest, TakesTheMemoryThatItSays) {
  test::on_ranks(GetParam(), [&](Communicator& ranks) {
    for (const Degrees& degrees : meshes_of(ranks.size())) {
      const Job job = this->job(degrees, true);
      const auto held_out = data().second;
      ProcessMesh mesh(ranks, degrees);
      Ledger weights_ledger, pass_ledger;
      Arena pool(Arena::Kind::pool, weights_ledger), saved(Arena::Kind::stack, pass_ledger),
          scratch(Arena::Kind::pool, pass_ledger);
      const auto model = model_of(job, mesh.along(axes::cp));
      WholeStore store(*model, pool, WholeStore::Holds::weights);
      store.initialize(1);
      EXPECT_EQ(weights_ledger.peak_bytes(), 4 * store.size());
      Evaluation evaluation(job.fields, mesh, *held_out);
      Stream stream;
      ASSERT_TRUE(evaluation.run({*model, store, saved, scratch, stream}, [] { return false; }).has_value());
      EXPECT_EQ(saved.peak_bytes(), 0);
      EXPECT_LE(pass_ledger.peak_bytes(), evaluation.pass_bytes(*model));
    }
  });
}

PLASMID_INSTANTIATE_ON_RANKS(EvaluationTest, test::rank_sets());

}  // namespace
}  // namespace plasmid
