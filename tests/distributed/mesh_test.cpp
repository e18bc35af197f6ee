#include <gtest/gtest.h>

#include "parallel/comm/self.hpp"
#include "parallel/mesh/process_mesh.hpp"
#include "tests/support/expect_error.hpp"
#include "tests/support/ranks.hpp"

namespace plasmid {
namespace {

class MeshTest : public testing::TestWithParam<test::RankSet> {};

// Ranks that share the coordinates off `mask` with this one, in order, by the definition of the layout.
std::vector<std::int32_t> members(const Degrees& degrees, int rank, unsigned mask) {
  const auto coordinates = [&](int r) {
    return std::array<int, 3>{r / (degrees.cp * degrees.tp), r / degrees.tp % degrees.cp, r % degrees.tp};
  };
  const auto mine = coordinates(rank);
  std::vector<std::int32_t> ranks;
  for (int r = 0; r < degrees.dp * degrees.cp * degrees.tp; ++r) {
    const auto other = coordinates(r);
    const bool dp = (mask & axes::dp) || other[0] == mine[0], cp = (mask & axes::cp) || other[1] == mine[1];
    const bool tp = (mask & axes::tp) || other[2] == mine[2];
    if (dp && cp && tp) ranks.push_back(r);
  }
  return ranks;
}

TEST_P(MeshTest, GroupsAlongEveryChoiceOfAxes) {
  test::on_ranks(GetParam(), [](Communicator& world) {
    Stream stream;
    for (int dp = 1; dp <= world.size(); ++dp)
      for (int cp = 1; dp * cp <= world.size(); ++cp) {
        if (world.size() % (dp * cp) != 0) continue;
        const Degrees degrees{dp, cp, world.size() / (dp * cp)};
        ProcessMesh mesh(world, degrees);
        const int r = world.rank();
        EXPECT_EQ(
            r, (mesh.coordinate(axes::dp) * cp + mesh.coordinate(axes::cp)) * degrees.tp + mesh.coordinate(axes::tp));
        for (unsigned mask = 0; mask < 8; ++mask) {
          Communicator& group = mesh.along(mask);
          std::vector<std::int32_t> mine = {r}, ranks(static_cast<std::size_t>(group.size()));
          group.all_gather(view_of(std::span(mine)), view_of(std::span(ranks)), stream).wait(stream);
          ASSERT_EQ(ranks, members(degrees, r, mask)) << dp << " x " << cp << " axes " << mask;
          ASSERT_EQ(ranks[static_cast<std::size_t>(group.rank())], r);
        }
      }
  });
}

PLASMID_INSTANTIATE_ON_RANKS(MeshTest, test::rank_sets());

TEST(ProcessMesh, RefusesDegreesThatDoNotMultiplyToTheRanks) {
  const auto world = make_self_communicator();
  expect_error(ErrorCode::config, {"dp 2", "cp 3", "tp 1", "= 6", "1 rank"}, [&] { ProcessMesh(*world, {2, 3, 1}); });
  expect_error(ErrorCode::config, {"cp 0", "at least 1"}, [&] { ProcessMesh(*world, {1, 0, 1}); });
  expect_error(ErrorCode::config, {"dp -1", "cp -1", "at least 1"}, [&] { ProcessMesh(*world, {-1, -1, 1}); });
  expect_error(ErrorCode::config, {"= 4611686014132420609"}, [&] { ProcessMesh(*world, {2147483647, 2147483647, 1}); });
}

}  // namespace
}  // namespace plasmid
