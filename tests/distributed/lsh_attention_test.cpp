// Sharded LSH attention is that of one rank, to the bit, whoever holds which tokens; and what it sends.
#include <gtest/gtest.h>

#include <numeric>

#include "tests/support/lsh_run.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/reference.hpp"

namespace plasmid {
namespace {

using test::LshCase;
using test::LshResult;
using test::LshRun;
using test::on_ranks;

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

class LshAttentionTest : public testing::TestWithParam<test::RankSet> {};

// Contiguous, zigzag, and pieces of any length that holders take in turn, one holder without a token where it can be.
std::vector<Shards> ways_to_split(Index total, int holders) {
  Shards turns(at(holders));
  const Index busy = holders > 2 ? holders - 1 : holders;
  for (Index begin = 0, i = 0; begin < total; ++i) {
    const Index end = std::min(total, begin + 1 + i * i * 7 % 41);
    turns[at(i % busy)].push_back({begin, end});
    begin = end;
  }
  return {make_shards(1, total, holders, Layout::contiguous), make_shards(1, total, holders, Layout::zigzag), turns};
}

void expect_same_bits(const LshResult<float>& got, const LshResult<float>& wanted, const std::string& what) {
  EXPECT_EQ(got.out, wanted.out) << what;
  EXPECT_EQ(got.lse, wanted.lse) << what;
  EXPECT_EQ(got.dqk, wanted.dqk) << what;
  EXPECT_EQ(got.dv, wanted.dv) << what;
}

TEST_P(LshAttentionTest, EqualsOneRankToTheBit) {
  const std::vector<std::vector<Index>> lines = {
      {0, 330}, {0, 5}, {0, 97, 97, 98, 130, 131, 259}, {0, 3, 6, 40, 45, 90, 135}};
  unsigned seed = 0;
  for (const auto& line : lines)
    for (const PreviousChunk previous : {PreviousChunk::round, PreviousChunk::sorted})
      for (const bool same_bucket : {false, true})
        for (const bool causal : {false, true})
          for (const Index heads_at_once : {0, 2}) {
            const Index chunk = ++seed % 3 == 0 ? 16 : 7, rounds = previous == PreviousChunk::sorted ? 2 : 1 + seed % 3;
            LshOptions options{rounds, chunk, causal, same_bucket, previous, heads_at_once};
            const LshCase problem = test::random_lsh_case(line, 3, 12, 9, options, seed);
            const LshResult<float> alone = test::run_lsh(problem).result;
            int way = 0;
            for (const Shards& shards : ways_to_split(problem.tokens(), GetParam().size)) {
              const std::string what = std::to_string(line.size()) + " documents, chunk " + std::to_string(chunk) +
                                       ", split " + std::to_string(way++) + ", seed " + std::to_string(seed);
              on_ranks(GetParam(), [&](Communicator& ring) {
                expect_same_bits(test::run_lsh(ring, problem, shards).result, alone, what);
              });
            }
          }
}

TEST_P(LshAttentionTest, EqualsPyTorch) {
  PLASMID_SKIP_WITHOUT_REFERENCE();
  for (const std::string& name : test::lsh_reference_names()) {
    const test::LshReference reference = test::read_lsh_reference(name);
    const Shards shards = make_shards(1, reference.problem.tokens(), GetParam().size, Layout::contiguous);
    on_ranks(GetParam(), [&](Communicator& ring) {
      test::expect_lsh_close(test::run_lsh(ring, reference.problem, shards).result, reference.result, reference.problem,
                             2e-5, name);
    });
  }
}

// What travels between two different ranks, by the definition of places, chunks and holders.
struct Travel {
  std::vector<Index> rows_out, rows_in, halos_out, halos_in;  // [ranks], over all heads and rounds
};
Travel count_travel(const LshCase& problem, const Shards& shards) {
  const Index ranks = std::ssize(shards), total = problem.tokens();
  std::vector<Index> home(at(total));
  for (Index r = 0; r < ranks; ++r)
    for (const Range range : shards[at(r)]) std::fill(home.begin() + range.begin, home.begin() + range.end, r);
  const std::vector<LshChunk> chunks = cut_chunks(problem.document_begin, problem.options.chunk);
  const auto holder = [&](const LshChunk& chunk) {  // the rank within whose equal share of the line it begins
    Index r = 0;
    while (chunk.places.begin >= total * (r + 1) / ranks) ++r;
    return r;
  };
  Travel travel{std::vector<Index>(at(ranks)), std::vector<Index>(at(ranks)), std::vector<Index>(at(ranks)),
                std::vector<Index>(at(ranks))};
  for (Index set = 0; set < problem.heads * problem.options.rounds; ++set) {
    std::vector<Index> order(at(total));
    std::iota(order.begin(), order.end(), 0);
    for (std::size_t i = 0; i + 1 < problem.document_begin.size(); ++i)
      std::stable_sort(order.begin() + problem.document_begin[i], order.begin() + problem.document_begin[i + 1],
                       [&](Index a, Index b) {
                         return problem.buckets[at(set * total + a)] < problem.buckets[at(set * total + b)];
                       });
    for (const LshChunk& chunk : chunks)
      for (Index place = chunk.places.begin; place < chunk.places.end; ++place) {
        const Index from = home[at(order[at(place)])], to = holder(chunk);
        if (from != to) ++travel.rows_out[at(from)], ++travel.rows_in[at(to)];
        if (chunk.next < 0) continue;
        const Index next = holder(chunks[at(chunk.next)]);
        if (next != to && next != from) ++travel.halos_out[at(from)], ++travel.halos_in[at(next)];
      }
  }
  return travel;
}

// Parts of documents that lie with several holders or in several of one holder's ranges.
Index segments_of_shared(const LshCase& problem, const Shards& shards) {
  Index all = 0;
  for (std::size_t i = 0; i + 1 < problem.document_begin.size(); ++i) {
    Index parts = 0;
    for (const auto& shard : shards)
      for (const Range range : shard)
        parts += std::max(range.begin, problem.document_begin[i]) < std::min(range.end, problem.document_begin[i + 1]);
    if (parts > 1) all += parts;
  }
  return all;
}

TEST_P(LshAttentionTest, SendsEachRowOnceAndCountsIt) {
  const Index heads = 2, d = 12, rounds = 3;
  const LshCase problem = test::random_lsh_case({0, 200, 470}, heads, d, 9, {rounds, 16, true}, 3);
  for (const Shards& shards : ways_to_split(problem.tokens(), GetParam().size)) {
    const Travel travel = count_travel(problem, shards);
    Index all_rows = 0, most_rows = 0;
    for (std::size_t r = 0; r < shards.size(); ++r) {
      const Index rows = travel.rows_out[r] + travel.halos_out[r];
      all_rows += rows, most_rows = std::max(most_rows, rows);
    }
    on_ranks(GetParam(), [&](Communicator& ring) {
      const LshRun run = test::run_lsh(ring, problem, shards);
      if (ring.size() == 1) {
        EXPECT_EQ(run.traffic.bytes + run.traffic.rows + run.traffic.halo_rows + run.traffic.table_bytes, 0);
        EXPECT_EQ(run.imbalance, 1);
        return;
      }
      const auto r = at(ring.rank());
      EXPECT_EQ(run.traffic.rows, 2 * travel.rows_out[r]);  // in forward and in backward
      EXPECT_EQ(run.traffic.halo_rows, 2 * travel.halos_out[r]);
      // qk, v, position, slot; out and lse back. The same with dout, lse, delta; dqk and dv back.
      const Index there = (2 * d + 2) + (3 * d + 5), back = (d + 2) + 2 * d;
      const Index halo_there = 2 * (2 * d + 2), halo_back = 2 * d;
      const Index words = travel.rows_out[r] * there + travel.rows_in[r] * back + travel.halos_out[r] * halo_there +
                          travel.halos_in[r] * halo_back;
      EXPECT_EQ(run.traffic.bytes, 4 * words + 2 * rounds * 16 * (ring.size() - 1));
      EXPECT_DOUBLE_EQ(run.imbalance, static_cast<double>(most_rows * ring.size()) / static_cast<double>(all_rows));
      // Counts of buckets of the documents that several ranks share, for the segments that they are cut into.
      EXPECT_EQ(run.traffic.table_bytes, 2 * rounds * heads * 9 * 4 * segments_of_shared(problem, shards));
    });
  }
}

TEST_P(LshAttentionTest, TakesNoMoreScratchThanItSays) {
  for (const Index heads_at_once : {0, 1}) {
    LshOptions options{2, 32, true, false, PreviousChunk::round, heads_at_once};
    const LshCase problem = test::random_lsh_case({0, 2048}, 4, 16, 64, options, 3);
    const Shards shards = make_shards(1, 2048, GetParam().size, Layout::contiguous);
    on_ranks(GetParam(), [&](Communicator& ring) {
      const LshRun run = test::run_lsh(ring, problem, shards);
      EXPECT_LE(run.scratch_peak, run.scratch_bound);
      EXPECT_LE(static_cast<double>(run.scratch_bound), 1.3 * static_cast<double>(run.scratch_peak));
    });
  }
}

PLASMID_INSTANTIATE_ON_RANKS(LshAttentionTest, test::rank_sets());

}  // namespace
}  // namespace plasmid
