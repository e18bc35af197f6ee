// Masks of dropout: their share, their independence, and the host op against its definition.
#include "runtime/ops/dropout.hpp"

#include <omp.h>

#include <algorithm>
#include <cmath>

#include "runtime/device/simd.hpp"
#include "runtime/nn/dropped.hpp"
#include "tests/support/local_line.hpp"
#include "tests/support/padded.hpp"

namespace plasmid {
namespace {

using test::Padded;

// P(a binomial count of n trials is at most k), summed term by term.
double binomial_at_most(Index k, Index n, double p) {
  double sum = 0;
  const auto log_factorial = [](Index m) { return std::lgamma(static_cast<double>(m) + 1); };
  for (Index i = 0; i <= k; ++i)
    sum += std::exp(log_factorial(n) - log_factorial(i) - log_factorial(n - i) + static_cast<double>(i) * std::log(p) +
                    static_cast<double>(n - i) * std::log1p(-p));
  return sum;
}

// Neither tail of a fair draw is below one in a million.
void expect_binomial(Index count, Index n, double p, const std::string& what) {
  EXPECT_GT(binomial_at_most(count, n, p), 1e-6) << what << ": " << count << " of " << n << ", p " << p;
  EXPECT_LT(binomial_at_most(count - 1, n, p), 1 - 1e-6) << what << ": " << count << " of " << n << ", p " << p;
}

TEST(DropoutMask, KeepsItsShareAndNeighboursAreIndependent) {
  constexpr Index kRows = 100, kColumns = 200;
  for (const double probability : {0.001, 0.1, 0.5, 0.9}) {
    const DropoutMask mask{0x1234567890abcdef, dropped_of_65536(probability)};
    const double share = 1 - mask.dropped / 65536.0;
    EXPECT_NEAR(share, 1 - probability, 0.5 / 65536);
    EXPECT_FLOAT_EQ(mask.scale() * static_cast<float>(share), 1);
    Index kept = 0, beside = 0, below = 0, other_key = 0;
    for (Index r = 0; r < kRows; ++r)
      for (Index c = 0; c < kColumns; ++c) {
        const auto row = static_cast<std::uint64_t>(r), column = static_cast<std::uint64_t>(c);
        const bool here = mask.keeps(row, column);
        kept += here;
        if (c % 2 == 0) beside += here && mask.keeps(row, column + 1);  // of one Philox word
        if (r % 2 == 0) below += here && mask.keeps(row + 1, column);
        if (r % 2 == 0) other_key += here && DropoutMask{mask.key + 1, mask.dropped}.keeps(row, column);
      }
    expect_binomial(kept, kRows * kColumns, share, "kept");
    for (const Index pairs : {beside, below, other_key})
      expect_binomial(pairs, kRows * kColumns / 2, share * share, "pairs kept");
  }
}

TEST(DropoutOp, EqualsItsDefinitionToTheBit) {
  Stream stream;
  const int threads = omp_get_max_threads();
  const std::vector<Range> ranges = {{3, 7}, {20, 20}, {41, 60}};
  for (const Simd simd : {Simd::sse4, Simd::avx2, Simd::avx512}) {
    if (simd > widest_simd()) continue;
    limit_simd(simd);
    for (const Index width : {1, 7, 8, 33, 384, 1000})
      for (const int team : {1, 3}) {
        omp_set_num_threads(team);
        const DropoutMask mask{99, dropped_of_65536(0.3)};
        const Padded x = Padded::normal({23, width}, 1, 3);
        Padded y = Padded::normal({23, width}, 2, 2), wanted = y;
        const Index first = Index{1} << 33;  // tokens and their halves above 32 bits
        ops::dropout(x.view(), ranges, first, mask, y.view(), stream);
        ops::ref::dropout(x.view(), ranges, first, mask, wanted.view());
        test::expect_same_bits(y, wanted, "width " + std::to_string(width));
        Padded in_place = x;
        ops::dropout(in_place.view(), ranges, first, mask, in_place.view(), stream);
        for (Index r = 0; r < 23; ++r)
          for (Index c = 0; c < width; ++c) ASSERT_EQ(in_place.at(r, c), wanted.at(r, c));
      }
  }
  omp_set_num_threads(threads);
  limit_simd(Simd::avx512);
}

// What two holders draw is what one draws, and each layer, place and step draws its own.
TEST(DropoutMask, FollowsTheTokenAndTheKey) {
  Stream stream;
  const DropoutMask mask{5, dropped_of_65536(0.5)};
  const Padded ones = Padded::normal({40, 24}, 1, 0, 1, 0), part_ones = Padded::normal({20, 24}, 1, 0, 1, 0);
  Padded whole({40, 24}), part({20, 24});
  ops::dropout(ones.view(), std::vector<Range>{{0, 40}}, 80, mask, whole.view(), stream);
  ops::dropout(part_ones.view(), std::vector<Range>{{5, 15}, {30, 40}}, 80, mask, part.view(), stream);
  for (Index r = 0; r < 20; ++r)
    for (Index c = 0; c < 24; ++c) ASSERT_EQ(part.at(r, c), whole.at(r < 10 ? r + 5 : r + 20, c));

  Ledger ledger;
  Arena arena(Arena::Kind::pool, ledger);
  const test::LocalLine line(1);
  struct NoStore final : ParameterStore {
    ConstView lease(const Parameter&, Stream&) override { return {}; }
    void release(const Parameter&, Stream&) override {}
    View gradient(const Parameter&) override { return {}; }
  } store;
  Context context{stream, arena, arena, store, {1, 1, 0}, line.map(), {}, nullptr, nullptr, true};
  std::vector<std::uint64_t> keys;
  const auto draw = [&](DropoutPlace place) { keys.push_back(dropout_mask(context, place, 0.5).key); };
  draw(DropoutPlace::mlp_output), draw(DropoutPlace::attention_output);
  context.rng.layer = 1, draw(DropoutPlace::mlp_output);
  context.rng.step = 2, draw(DropoutPlace::mlp_output);
  context.rng.seed = 2, draw(DropoutPlace::mlp_output);
  std::ranges::sort(keys);
  EXPECT_EQ(std::ranges::adjacent_find(keys), keys.end());
  context.training = false;
  EXPECT_FALSE(dropout_mask(context, DropoutPlace::mlp_output, 0.5)) << "evaluation drops nothing";
}

}  // namespace
}  // namespace plasmid
