// Markov models against a loop that counts each context anew, and against sources whose entropy is known.
#include "runtime/data/markov.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <random>

#include "runtime/data/hashed_counts.hpp"
#include "tests/support/vector_corpus.hpp"

namespace plasmid {
namespace {

using test::VectorCorpus;
using Records = std::vector<std::vector<std::int32_t>>;

// By the definition: every label of `held_out` with its context written out, beside all labels of `training`.
class Definition {
 public:
  Definition(const VectorCorpus& training, const VectorCorpus& held_out, double m)
      : training_(training), held_out_(held_out), m_(m), nucleotides_(training.vocabulary() == 5) {
    for (int order = 0; order <= 12; ++order)
      for (Index at = 0; at < training.size(); ++at) {
        if (!is_label(training, at)) continue;
        const auto context = context_of(training, at, order);
        if (nucleotides_ && token(training, at) == 4) continue;
        if (static_cast<int>(context.size()) == order) ++counts_[context][token(training, at)];
      }
    for (Index at = 0; at < training.size(); ++at)
      if (is_label(training, at)) ++gaps_[after_n(training, at)][token(training, at) == 4];
  }

  double nats(int order) const {
    double sum = 0;
    Index labels = 0;
    for (Index at = 0; at < held_out_.size(); ++at) {
      if (!is_label(held_out_, at)) continue;
      ++labels;
      const bool is_n = nucleotides_ && token(held_out_, at) == 4;
      if (nucleotides_) {
        const auto row =
            gaps_.contains(after_n(held_out_, at)) ? gaps_.at(after_n(held_out_, at)) : std::map<bool, int>();
        const auto of = [&](bool n) { return row.contains(n) ? row.at(n) : 0; };
        sum -= std::log((of(is_n) + m_ / 2) / (of(true) + of(false) + m_));
      }
      if (is_n) continue;
      std::map<std::int32_t, int> row;
      if (const auto found = counts_.find(context_of(held_out_, at, order)); found != counts_.end())
        row = found->second;
      int total = 0;
      for (const auto& [symbol, count] : row) total += count;
      const int count = row.contains(token(held_out_, at)) ? row.at(token(held_out_, at)) : 0;
      const double symbols = nucleotides_ ? 4 : training_.vocabulary();
      sum -= std::log((count + m_ / symbols) / (total + m_));
    }
    return sum / static_cast<double>(labels);
  }

 private:
  static std::int32_t token(const VectorCorpus& corpus, Index at) {
    return corpus.tokens[static_cast<std::size_t>(at)];
  }
  static bool begins(const VectorCorpus& corpus, Index at) { return corpus.record_begins(at, at + 1).size() == 1; }
  static bool is_label(const VectorCorpus& corpus, Index at) {
    return corpus.counts[static_cast<std::size_t>(at)] && !begins(corpus, at);
  }
  static bool after_n(const VectorCorpus& corpus, Index at) {
    return !begins(corpus, at) && token(corpus, at - 1) == 4;
  }
  std::vector<std::int32_t> context_of(const VectorCorpus& corpus, Index at, int order) const {
    std::vector<std::int32_t> context;
    for (; static_cast<int>(context.size()) < order && !begins(corpus, at); --at) {
      if (nucleotides_ && token(corpus, at - 1) == 4) break;
      context.push_back(token(corpus, at - 1));
    }
    return context;
  }

  const VectorCorpus& training_;
  const VectorCorpus& held_out_;
  double m_;
  bool nucleotides_;
  std::map<std::vector<std::int32_t>, std::map<std::int32_t, int>> counts_;
  std::map<bool, std::map<bool, int>> gaps_;
};

// Records of a source in which tokens repeat what stood three before, often; some tokens do not count.
VectorCorpus corpus(unsigned seed, const std::vector<Index>& sizes, int vocabulary, int used) {
  std::mt19937 random(seed);
  Records records;
  for (const Index size : sizes) {
    auto& record = records.emplace_back();
    while (static_cast<Index>(record.size()) < size)
      record.push_back(record.size() > 3 && random() % 3
                           ? record[record.size() - 3]
                           : static_cast<std::int32_t>(random() % static_cast<unsigned>(used)));
  }
  VectorCorpus result(records, vocabulary);
  for (auto& counts : result.counts) counts = random() % 10 != 0;
  return result;
}

void expect_definition(VectorCorpus& training, VectorCorpus& held_out, double m, const MarkovOptions& options = {}) {
  const MarkovScore score = score_markov(training, held_out, options);
  const Definition definition(training, held_out, m);
  ASSERT_EQ(score.nats.size(), 13u);
  for (int order = 0; order <= 12; ++order) {
    const double expected = definition.nats(order);
    // Two sums of the same positive terms in different orders.
    const double rounding = static_cast<double>(held_out.size()) * std::numeric_limits<double>::epsilon();
    EXPECT_NEAR(score.nats[static_cast<std::size_t>(order)], expected, rounding * expected) << "order " << order;
  }
}

TEST(Markov, IsTheDefinitionForNucleotidesWithGapsAndShortRecords) {
  VectorCorpus training = corpus(1, {300, 1, 2, 5, 13, 200}, 5, 5), held_out = corpus(2, {3, 1, 150, 14, 60}, 5, 5);
  expect_definition(training, held_out, 4);
  expect_definition(training, held_out, 0.5, {.pseudo_tokens = 0.5});
  VectorCorpus whole = corpus(3, {500}, 5, 4);
  expect_definition(whole, held_out, 4);
}

TEST(Markov, IsTheDefinitionForBytes) {
  VectorCorpus training = corpus(1, {300, 1, 2, 5, 13, 200}, 256, 256), held_out = corpus(2, {3, 1, 150, 60}, 256, 256);
  expect_definition(training, held_out, 4);
  VectorCorpus few = corpus(5, {400}, 256, 3);
  expect_definition(few, held_out, 4);
}

TEST(Markov, DenseTablesCountAsHashedContextsDo) {
  VectorCorpus training = corpus(1, {600000, 1, 5, 13, 2, 500000, 3000}, 5, 5),
               held_out = corpus(2, {2000, 3, 14}, 5, 5);
  ASSERT_GE(training.size(), Index{1} << 20);
  const MarkovScore dense = score_markov(training, held_out);
  const MarkovScore hashed = score_markov(training, held_out, {.dense_from = training.size() + 1});
  ASSERT_EQ(dense.labels, hashed.labels);
  ASSERT_EQ(dense.nats.size(), 13u);
  ASSERT_EQ(hashed.nats.size(), 13u);
  for (std::size_t order = 0; order < 13; ++order)
    EXPECT_NEAR(dense.nats[order], hashed.nats[order],
                2100 * std::numeric_limits<double>::epsilon() * dense.nats[order]);
}

TEST(Markov, ScoresWhatANetworkPredicts) {
  VectorCorpus training({{0, 1, 2, 3}}, 5), held_out({{0, 1, 2}, {3}, {4, 4, 0, 1}}, 5);
  EXPECT_EQ(score_markov(training, held_out).labels, 2 + 0 + 3);
  held_out.counts[1] = 0;
  EXPECT_EQ(score_markov(training, held_out).labels, 1 + 0 + 3);
}

// A chain of order 2 over four bases: its entropy is the mean of its rows', weighted by how often each context comes.
TEST(Markov, FindsTheEntropyOfASource) {
  std::mt19937_64 random(11);
  std::array<std::discrete_distribution<std::int32_t>, 16> rows;
  std::array<double, 16> entropy{};
  std::uniform_real_distribution<double> weight(0.05, 1);
  for (std::size_t c = 0; c < 16; ++c) {
    std::array<double, 4> w;
    for (double& value : w) value = weight(random) * weight(random);
    rows[c] = std::discrete_distribution<std::int32_t>(w.begin(), w.end());
    for (const double p : rows[c].probabilities()) entropy[c] -= p * std::log(p);
  }
  const auto draw = [&](Index size, double* mean) {
    std::vector<std::int32_t> tokens = {0, 1};
    double sum = 0;
    while (static_cast<Index>(tokens.size()) < size) {
      const auto c = static_cast<std::size_t>(4 * tokens[tokens.size() - 2] + tokens.back());
      sum += entropy[c];
      tokens.push_back(rows[c](random));
    }
    *mean = sum / static_cast<double>(size);
    return Records{tokens};
  };
  double of_training = 0, of_held_out = 0;
  VectorCorpus training(draw(Index{1} << 20, &of_training), 5), held_out(draw(200000, &of_held_out), 5);
  const MarkovScore score = score_markov(training, held_out);
  EXPECT_EQ(score.best(), 2);
  // -log p has a standard deviation of about one nat, so its mean over 2e5 draws one of 2.2e-3: five of them. What
  // counting costs, half a nat for each of 48 free probabilities over 1e6 draws, is far below.
  EXPECT_NEAR(score.nats[2], of_held_out, 5 / std::sqrt(200000.0));
  EXPECT_GT(score.nats[1], score.nats[2]);
  EXPECT_GT(score.nats[12], score.nats[2]) << "too long contexts are seen too rarely";
}

TEST(Markov, AFairDieCostsTwoBitsAtEveryLowOrder) {
  std::mt19937 random(3);
  const auto draw = [&](Index size) {
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(size));
    for (auto& token : tokens) token = static_cast<std::int32_t>(random() % 4);
    return Records{tokens};
  };
  VectorCorpus training(draw(1 << 20), 5), held_out(draw(50000), 5);
  const MarkovScore score = score_markov(training, held_out);
  // Counting costs about half a nat for each of 3 * 4^k probabilities over 2^20 labels, and varies by less.
  for (int order = 0; order <= 4; ++order)
    EXPECT_NEAR(score.nats[static_cast<std::size_t>(order)], std::log(4), 3 * std::pow(4, order) / (1 << 20) + 1e-3);
}

TEST(Markov, StopsAtTheOrderThatDoesNotFit) {
  VectorCorpus training = corpus(1, {20000}, 256, 256), held_out = corpus(2, {500}, 256, 256);
  const MarkovScore all = score_markov(training, held_out);
  const MarkovScore some = score_markov(training, held_out, {.memory_bytes = 1 << 18});
  ASSERT_EQ(all.nats.size(), 13u);
  ASSERT_LT(some.nats.size(), 13u);
  ASSERT_GE(some.nats.size(), 1u);
  for (std::size_t order = 0; order < some.nats.size(); ++order) EXPECT_EQ(some.nats[order], all.nats[order]);

  VectorCorpus bases = corpus(1, {Index{1} << 20}, 5, 4), held_bases = corpus(2, {500}, 5, 4);
  const MarkovScore dense = score_markov(bases, held_bases, {.memory_bytes = 1 << 20});
  ASSERT_EQ(dense.nats.size(), 8u);  // 4^8 counts of 4 bytes and 4/3 * 4^7 of 8
  EXPECT_NEAR(dense.nats[7], score_markov(bases, held_bases).nats[7], 1e-12);
}

TEST(HashedCounts, CountsAcrossGrowthUpToItsBound) {
  HashedCounts counts(1 << 20);
  std::mt19937_64 random(1);
  std::map<std::uint64_t, std::uint64_t> expected;
  for (int i = 0; i < 20000; ++i) {
    const std::uint64_t key = random() % 3000 * 0x9e3779b97f4a7c15;  // zero among them
    ASSERT_TRUE(counts.add(key));
    ++expected[key];
  }
  for (const auto& [key, count] : expected) EXPECT_EQ(counts.of(key), count);
  EXPECT_EQ(counts.of(12345), 0u);
  HashedCounts small(0);
  std::uint64_t fitted = 0;
  while (small.add(fitted * 0x9e3779b97f4a7c15)) ++fitted;
  EXPECT_GT(fitted, 600u);
  EXPECT_TRUE(small.add(0)) << "a known key counts on";
  EXPECT_EQ(small.of(0), 2u);
}

}  // namespace
}  // namespace plasmid
