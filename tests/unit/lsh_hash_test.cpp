// Buckets of LSH attention and the order that they sort tokens into.
#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "attention/lsh/hash.hpp"
#include "attention/lsh/lsh.hpp"
#include "attention/lsh/order.hpp"
#include "tests/support/expect_error.hpp"
#include "tests/support/lsh_case.hpp"
#include "tests/support/padded.hpp"
#include "tests/support/reference.hpp"

namespace plasmid {
namespace {

using test::Padded;

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

std::vector<std::uint16_t> hash(ConstView qk, std::vector<float>& rotations, Index rounds, const LshBuckets& shape) {
  const Index heads = qk.dim(1), tokens = qk.dim(0);
  std::vector<std::uint16_t> buckets(at(heads * rounds * tokens), 7);
  Ledger ledger;
  Arena scratch(Arena::Kind::pool, ledger, lsh_hash_scratch_bytes(tokens, heads, rounds, shape));
  Stream stream;
  lsh_hash(qk, view_of(std::span(rotations)).reshape({heads, qk.dim(2), rounds * shape.columns()}), rounds, shape,
           view_of(std::span(buckets)).reshape({heads, rounds, tokens}), scratch, stream);
  EXPECT_EQ(scratch.live_bytes(), 0);
  return buckets;
}

std::vector<float> draw(std::uint64_t seed, std::uint64_t layer, Index heads, Index d, Index rounds,
                        const LshBuckets& shape) {
  std::vector<float> rotations(at(heads * d * rounds * shape.columns()));
  draw_lsh_rotations(seed, layer, rounds, shape,
                     view_of(std::span(rotations)).reshape({heads, d, rounds * shape.columns()}));
  return rotations;
}

// The definition; `gap` is how far the largest is from the next, relative to the row and its rotation.
Index bucket_of(const float* x, const float* columns, Index step, Index d, Index factor, double& gap) {
  std::vector<double> both(at(factor));
  double norm = 0;
  for (Index c = 0; c < d; ++c) norm += static_cast<double>(x[c]) * x[c];
  for (Index j = 0; j < factor / 2; ++j) {
    for (Index c = 0; c < d; ++c) both[at(j)] += static_cast<double>(x[c]) * columns[c * step + j];
    both[at(factor / 2 + j)] = -both[at(j)];
  }
  const auto largest = std::ranges::max_element(both);
  for (auto i = both.begin(); i != both.end(); ++i)
    if (i != largest) gap = std::min(gap, (*largest - *i) / std::sqrt(norm * static_cast<double>(d)));
  return largest - both.begin();
}

TEST(LshHash, EqualsItsDefinition) {
  for (const LshBuckets shape : {LshBuckets{2, 1}, {6, 1}, {64, 1}, {4, 8}, {32, 64}, {256, 256}}) {
    const Index tokens = 131, heads = 2, d = 24, rounds = 3, columns = shape.columns();
    const Padded qk = Padded::normal({tokens, heads, d}, 3, 40);
    std::vector<float> rotations = draw(5, 1, heads, d, rounds, shape);
    const std::vector<std::uint16_t> buckets = hash(qk.view(), rotations, rounds, shape);
    Index near_ties = 0;
    for (Index h = 0; h < heads; ++h)
      for (Index r = 0; r < rounds; ++r)
        for (Index t = 0; t < tokens; ++t) {
          const float* x = qk.view().ptr<float>() + t * qk.view().step(0) + h * d;
          const float* set = rotations.data() + h * d * rounds * columns + r * columns;
          double gap = 1;
          Index wanted = bucket_of(x, set, rounds * columns, d, shape.first, gap);
          if (shape.second > 1)
            wanted =
                wanted * shape.second + bucket_of(x, set + shape.first / 2, rounds * columns, d, shape.second, gap);
          if (gap < static_cast<double>(d) * 0x1p-24) {
            ++near_ties;
          } else {
            ASSERT_EQ(buckets[at((h * rounds + r) * tokens + t)], wanted) << shape.count() << " buckets, token " << t;
          }
        }
    EXPECT_LT(near_ties, 5);
  }
}

TEST(LshHash, EqualsTheReferenceNumbers) {
  PLASMID_SKIP_WITHOUT_REFERENCE();
  for (const std::string& name : test::lsh_reference_names()) {
    const test::LshReference reference = test::read_lsh_reference(name);
    const test::LshCase& problem = reference.problem;
    const Index rounds = problem.options.rounds, half = reference.bucket_count / 2, d = problem.d;
    std::vector<float> rotations(reference.rotations.size());  // [heads, rounds, d, half] to [heads, d, rounds, half]
    for (Index i = 0; i < std::ssize(rotations); ++i) {
      const Index j = i % half, c = i / half % d, r = i / half / d % rounds, h = i / half / d / rounds;
      rotations[at(((h * d + c) * rounds + r) * half + j)] = reference.rotations[at(i)];
    }
    EXPECT_EQ(hash(problem.rows(problem.qk), rotations, rounds, {reference.bucket_count, 1}), problem.buckets) << name;
  }
}

TEST(LshHash, ATokensBucketsDependOnItsRowAlone) {
  const LshBuckets shape{16, 32};
  const Index tokens = 700, heads = 2, d = 16, rounds = 2;
  const Padded qk = Padded::normal({tokens, heads, d}, 4);
  std::vector<float> rotations = draw(9, 0, heads, d, rounds, shape);
  const std::vector<std::uint16_t> whole = hash(qk.view(), rotations, rounds, shape);
  const int before = omp_get_max_threads();
  for (const int threads : {1, 3}) {
    omp_set_num_threads(threads);
    for (const Range part : {Range{0, 1}, Range{5, 52}, Range{333, 700}}) {
      const std::vector<std::uint16_t> some = hash(qk.view().slice(0, part.begin, part.end), rotations, rounds, shape);
      for (Index set = 0; set < heads * rounds; ++set)
        for (Index t = 0; t < part.size(); ++t)
          ASSERT_EQ(some[at(set * part.size() + t)], whole[at(set * tokens + part.begin + t)]) << part.begin + t;
    }
  }
  omp_set_num_threads(before);
}

TEST(LshHash, RowsThatAreNotFiniteLandInSomeBucket) {
  std::vector<float> rotations = draw(9, 0, 1, 8, 1, {4, 8});
  Padded qk = Padded::normal({3, 1, 8}, 4);
  qk.at(0, 3) = std::nanf(""), qk.at(1, 0) = INFINITY;
  for (const std::uint16_t bucket : hash(qk.view(), rotations, 1, {4, 8})) EXPECT_LT(bucket, 32);
}

// Of 4 n numbers: mean and variance within five standard errors. Rounds, heads, layers and seeds have their own.
TEST(LshRotations, AreNormalAndDifferByRoundHeadLayerAndSeed) {
  const LshBuckets shape{64, 64};
  const Index heads = 2, d = 32, rounds = 2;
  const std::vector<float> drawn = draw(3, 7, heads, d, rounds, shape);
  double sum = 0, squares = 0;
  for (const float x : drawn) sum += x, squares += static_cast<double>(x) * x;
  const auto n = static_cast<double>(drawn.size());
  EXPECT_LT(std::abs(sum / n), 5 / std::sqrt(n));
  EXPECT_LT(std::abs(squares / n - 1), 5 * std::sqrt(2 / n));
  std::vector<float> sorted = drawn;
  std::ranges::sort(sorted);
  EXPECT_LT(std::ssize(sorted) - (std::ranges::unique(sorted).begin() - sorted.begin()), 5);  // f32 may repeat one
  EXPECT_EQ(draw(3, 7, heads, d, rounds, shape), drawn);
  EXPECT_NE(draw(4, 7, heads, d, rounds, shape), drawn);
  EXPECT_NE(draw(3, 8, heads, d, rounds, shape), drawn);
  // A head and a round keep theirs where there are more of them.
  const std::vector<float> more = draw(3, 7, heads + 1, d, rounds + 1, shape);
  const Index columns = shape.columns();
  for (Index h = 0; h < heads; ++h)
    for (Index c = 0; c < d; ++c)
      for (Index j = 0; j < rounds * columns; ++j)
        ASSERT_EQ(more[at((h * d + c) * (rounds + 1) * columns + j)], drawn[at((h * d + c) * rounds * columns + j)]);
}

TEST(LshBuckets, AreAboutOneAChunkInTwoFactorsOfOneSize) {
  EXPECT_EQ(choose_lsh_buckets(1, 64), (LshBuckets{2, 1}));
  EXPECT_EQ(choose_lsh_buckets(512, 64), (LshBuckets{8, 1}));
  EXPECT_EQ(choose_lsh_buckets(513, 64), (LshBuckets{16, 1}));
  EXPECT_EQ(choose_lsh_buckets(8192, 64), (LshBuckets{8, 16}));
  EXPECT_EQ(choose_lsh_buckets(131'072, 64), (LshBuckets{32, 64}));
  EXPECT_EQ(choose_lsh_buckets(Index{1} << 40, 64), (LshBuckets{256, 256}));
  EXPECT_EQ(lsh_buckets_of(6), (LshBuckets{6, 1}));
  EXPECT_EQ(lsh_buckets_of(4096), (LshBuckets{64, 64}));
  for (const Index count : {-2, 0, 1, 7, 65538})
    expect_error(ErrorCode::config, {"buckets = " + std::to_string(count)}, [&] { lsh_buckets_of(count); });
}

TEST(LshOrder, SortsByDocumentBucketAndPosition) {
  std::mt19937 bits(8);
  for (const Index bucket_count : {2, 40, 4096}) {
    const std::vector<Index> begin = {0, 1, 1, 30, 700, 2500};
    std::vector<std::uint16_t> buckets(2500);
    for (auto& bucket : buckets) bucket = static_cast<std::uint16_t>(bits() % static_cast<unsigned>(bucket_count));
    std::vector<std::int32_t> order(2500), counts(at(bucket_count)), wanted(2500);
    detail::sort_by_bucket(buckets, begin, order, counts);
    std::iota(wanted.begin(), wanted.end(), 0);
    for (std::size_t i = 0; i + 1 < begin.size(); ++i)
      std::stable_sort(wanted.begin() + begin[i], wanted.begin() + begin[i + 1],
                       [&](std::int32_t a, std::int32_t b) { return buckets[at(a)] < buckets[at(b)]; });
    EXPECT_EQ(order, wanted) << bucket_count;
  }
}

}  // namespace
}  // namespace plasmid
