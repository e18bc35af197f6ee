#include "parallel/dp/gradients.hpp"

#include <gtest/gtest.h>

#include "tests/support/ranks.hpp"

namespace plasmid {
namespace {

ParameterPtr parameter(const std::string& name, Index begin, Index end, unsigned partial_over) {
  ParameterPtr p = make_parameter(name, {end - begin}, {});
  p->range = {begin, end};
  p->partial_over = partial_over;
  return p;
}

std::vector<std::pair<Range, unsigned>> buckets_of(std::span<const ParameterPtr> parameters, Index floats) {
  std::vector<std::pair<Range, unsigned>> found;
  for (const GradientBucket& bucket : gradient_buckets(parameters, floats * 4))
    found.emplace_back(bucket.range, bucket.axes);
  return found;
}

using Found = std::vector<std::pair<Range, unsigned>>;

TEST(GradientBuckets, JoinNeighboursOnTheSameAxesAndSplitLongOnes) {
  const unsigned t = axes::tokens;
  const std::vector<ParameterPtr> store = {parameter("b", 16, 20, t),        parameter("a", 0, 10, t),
                                           parameter("c", 32, 40, axes::dp), parameter("d", 48, 58, t),
                                           parameter("e", 64, 70, 0),        parameter("f", 80, 90, t)};
  EXPECT_EQ(buckets_of(store, 100), (Found{{{0, 20}, t}, {{32, 40}, axes::dp}, {{48, 58}, t}, {{80, 90}, t}}));
  EXPECT_EQ(buckets_of(store, 8), (Found{{{0, 8}, t},
                                         {{8, 16}, t},
                                         {{16, 20}, t},
                                         {{32, 40}, axes::dp},
                                         {{48, 56}, t},
                                         {{56, 58}, t},
                                         {{80, 88}, t},
                                         {{88, 90}, t}}));
  EXPECT_EQ(buckets_of(store, 12),
            (Found{{{0, 12}, t}, {{16, 20}, t}, {{32, 40}, axes::dp}, {{48, 58}, t}, {{80, 90}, t}}));
  EXPECT_TRUE(gradient_buckets({}).empty());
}

class GradientsTest : public testing::TestWithParam<test::RankSet> {};

// A gradient that names its rank and place: sums over any group are exact in f32.
float value(int rank, Index place) { return static_cast<float>((rank + 1) * 64 + place % 61); }

TEST_P(GradientsTest, EachParameterIsSummedOverItsOwnAxesOnly) {
  const Index bucket_bytes = 1024, large = 1000;  // four buckets
  const std::vector<ParameterPtr> store = {parameter("tokens", 0, 37, axes::tokens),
                                           parameter("large", 48, 48 + large, axes::tokens),
                                           parameter("all", large + 64, large + 80, axes::dp | axes::cp | axes::tp),
                                           parameter("cp", large + 80, large + 99, axes::cp),
                                           parameter("dp", large + 112, large + 120, axes::dp),
                                           parameter("own", large + 128, large + 131, 0)};
  const auto size = static_cast<std::size_t>(large + 144);
  test::on_ranks(GetParam(), [&](Communicator& world) {
    Stream stream;
    for (int dp = 1; dp <= world.size(); ++dp)
      for (int cp = 1; dp * cp <= world.size(); ++cp) {
        if (world.size() % (dp * cp) != 0) continue;
        ProcessMesh mesh(world, {dp, cp, world.size() / (dp * cp)});
        std::vector<float> flat(size);
        for (std::size_t i = 0; i < size; ++i) flat[i] = value(world.rank(), static_cast<Index>(i));
        const std::vector<float> before = flat;
        reduce_gradients(flat, store, mesh, stream, bucket_bytes);
        for (const ParameterPtr& p : store) {
          std::vector<std::int32_t> mine = {world.rank()},
                                    ranks(static_cast<std::size_t>(mesh.along(p->partial_over).size()));
          mesh.along(p->partial_over)
              .all_gather(view_of(std::span(mine)), view_of(std::span(ranks)), stream)
              .wait(stream);
          for (Index i = p->range.begin; i < p->range.end; ++i) {
            float expected = 0;
            for (const int rank : ranks) expected += value(rank, i);
            ASSERT_EQ(flat[static_cast<std::size_t>(i)], expected) << p->name << " at " << i;
          }
        }
        for (const Index gap : {Index{131}, Index{143}})  // after the last parameter that is reduced
          ASSERT_EQ(flat[static_cast<std::size_t>(large + gap)], before[static_cast<std::size_t>(large + gap)]);
      }
  });
}

TEST_P(GradientsTest, LossAndTokensAreSummedOverDpAndCp) {
  test::on_ranks(GetParam(), [](Communicator& world) {
    Stream stream;
    const bool even = world.size() % 2 == 0;
    ProcessMesh mesh(world, {even ? 2 : 1, even ? world.size() / 2 : world.size(), 1});
    const int r = world.rank(), n = world.size();
    const Index tokens = r == 0 ? 0 : (Index{1} << 40) + r;  // the first rank holds nothing that counts
    const LossSums sums = reduce_sums({r == 0 ? 0.0 : 0.5 * r, tokens}, mesh, stream);
    EXPECT_EQ(sums.loss, 0.25 * n * (n - 1));
    EXPECT_EQ(sums.tokens, (Index{n} - 1) * (Index{1} << 40) + Index{n} * (n - 1) / 2);
  });
}

PLASMID_INSTANTIATE_ON_RANKS(GradientsTest, test::rank_sets());

}  // namespace
}  // namespace plasmid
