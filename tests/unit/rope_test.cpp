#include "runtime/ops/rope.hpp"

#include <cmath>

#include "tests/support/padded.hpp"

namespace plasmid {
namespace {

using test::kHalfUlp;
using test::Padded;

std::vector<std::int32_t> random_positions(Index tokens, std::int32_t largest) {
  std::mt19937 bits(3);
  std::uniform_int_distribution<std::int32_t> draw(0, largest);
  std::vector<std::int32_t> positions(static_cast<std::size_t>(tokens));
  for (std::int32_t& position : positions) position = draw(bits);
  if (tokens > 0) positions.back() = largest;
  return positions;
}

// Cosine and sine are rounded to f32, then two products and a sum: four roundings, and one of the definition. An angle
// of `largest` is itself rounded in f64, and whole turns are taken off in at most three more roundings of its size.
double bound(double largest, double u, double w) {
  return (5 * kHalfUlp + 4 * largest * 0x1p-53) * (std::abs(u) + std::abs(w));
}

void expect_pairs_within(const Padded& found, const Padded& wanted, const Padded& sizes, Index d, double largest) {
  test::expect_within(
      found, wanted,
      [&](Index t, Index c) {
        const Index other = c % d < d / 2 ? c + d / 2 : c - d / 2;
        return bound(largest, sizes.at(t, c), sizes.at(t, other));
      },
      "rope");
}

TEST(Rope, EqualsItsDefinitionAtNearAndFarPositions) {
  Stream stream;
  for (const Shape& size : {Shape{0, 2, 8}, Shape{1, 1, 2}, Shape{5, 3, 6}, Shape{40, 2, 64}, Shape{9, 4, 34}})
    for (const std::int32_t largest : {0, 10, 100'000, 10'000'000, INT32_MAX})
      for (const bool inverse : {false, true}) {
        const auto positions = random_positions(size[0], largest);
        Padded x = Padded::normal(size, 1, 7);
        const Padded before = x;
        Padded wanted = x;
        ops::rope(x.view(), view_of(std::span(positions)), 10000, inverse, stream);
        ops::ref::rope(wanted.view(), view_of(std::span(positions)), 10000, inverse);
        expect_pairs_within(x, wanted, before, size[2], largest);
      }
}

TEST(Rope, InverseRotatesBack) {
  Stream stream;
  const auto positions = random_positions(50, 10'000'000);
  const Padded before = Padded::normal({50, 2, 32}, 1);
  Padded x = before;
  ops::rope(x.view(), view_of(std::span(positions)), 500000, false, stream);
  ops::rope(x.view(), view_of(std::span(positions)), 500000, true, stream);
  test::expect_within(
      x, before,
      [&](Index t, Index c) {  // two rotations, and c^2 + s^2 of the rounded pair is not exactly 1
        const Index other = c % 32 < 16 ? c + 16 : c - 16;
        return 2 * bound(1e7, before.at(t, c), before.at(t, other));
      },
      "there and back");
}

// Channels and heads may lie inside a wider projection.
TEST(Rope, TurnsStridedHeadsAndNothingBeside) {
  Stream stream;
  const std::vector<std::int32_t> positions = {3, 1, 4};
  Padded wide = Padded::normal({3, 20}, 1, 2);  // channels 4 to 16 hold two heads of 6
  const Padded before = wide;
  View heads = wide.view();
  heads.data += 4 * sizeof(float), heads.shape = {3, 2, 6}, heads.stride = {22, 6, 1};
  ops::rope(heads, view_of(std::span(positions)), 10000, false, stream);
  Padded wanted({3, 2, 6}), sizes({3, 2, 6});
  for (Index t = 0; t < 3; ++t)
    for (Index c = 0; c < 12; ++c) wanted.at(t, c) = sizes.at(t, c) = before.at(t, 4 + c);
  ops::ref::rope(wanted.view(), view_of(std::span(positions)), 10000, false);
  Padded found({3, 2, 6});
  for (Index t = 0; t < 3; ++t)
    for (Index c = 0; c < 20; ++c) {
      if (c >= 4 && c < 16) {
        found.at(t, c - 4) = wide.at(t, c);
      } else {
        EXPECT_EQ(wide.at(t, c), before.at(t, c)) << t << ", " << c;
      }
    }
  expect_pairs_within(found, wanted, sizes, 6, 4);
  EXPECT_TRUE(wide.guards_stand());
}

TEST(RopeDeathTest, RefusesAnOddHead) {
  Stream stream;
  const std::vector<std::int32_t> positions = {0};
  Padded x({1, 1, 5});
  EXPECT_DEATH(ops::rope(x.view(), view_of(std::span(positions)), 10000, false, stream), "no halves");
}

}  // namespace
}  // namespace plasmid
