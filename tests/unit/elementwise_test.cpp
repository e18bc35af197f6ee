#include "runtime/ops/elementwise.hpp"

#include <omp.h>

#include <cstring>

#include "tests/support/padded.hpp"

namespace plasmid {
namespace {

using test::Padded;

constexpr Shape kShapes[] = {{0}, {1}, {77}, {0, 4}, {3, 7}, {100'000, 1}, {2, 50'001}, {5, 3, 4}, {40'000, 2, 3}};

template <class Body>
void for_each_case(Body&& body) {
  const int threads = omp_get_max_threads();
  for (const Shape& shape : kShapes)
    for (const Index gap : {0, 5})
      for (const int team : {1, 3}) {
        if (shape.rank == 1 && gap > 0) continue;
        omp_set_num_threads(team);
        body(shape, gap);
      }
  omp_set_num_threads(threads);
}

void expect_each(const Padded& found, const std::function<float(Index, Index)>& wanted, const char* what) {
  EXPECT_TRUE(found.guards_stand()) << what;
  for (Index r = 0; r < found.rows(); ++r)
    for (Index c = 0; c < found.width(); ++c) ASSERT_EQ(found.at(r, c), wanted(r, c)) << what << ": " << r << ", " << c;
}

TEST(Elementwise, FillsScalesAddsAndCopies) {
  Stream stream;
  for_each_case([&](Shape shape, Index gap) {
    const Padded a = Padded::normal(shape, 1, gap), b = Padded::normal(shape, 2, shape.rank == 1 ? 0 : 2);
    Padded x(shape, gap);
    ops::fill(x.view(), 2.5f, stream);
    expect_each(
        x, [](Index, Index) { return 2.5f; }, "fill");
    ops::copy(b.view(), x.view(), stream);
    expect_each(
        x, [&](Index r, Index c) { return b.at(r, c); }, "copy");
    ops::add(a.view(), b.view(), x.view(), stream);
    const auto sum = [&](Index r, Index c) { return a.at(r, c) + b.at(r, c); };
    expect_each(x, sum, "add");
    Padded left = a, right = b;
    ops::add(left.view(), b.view(), left.view(), stream);
    ops::add(a.view(), right.view(), right.view(), stream);
    expect_each(left, sum, "sum is a");
    expect_each(right, sum, "sum is b");
    ops::scale(left.view(), -0.5f, stream);
    expect_each(
        left, [&](Index r, Index c) { return -0.5f * sum(r, c); }, "scale");
  });
}

TEST(Elementwise, WritesAsToldTo) {
  Stream stream;
  for_each_case([&](Shape shape, Index gap) {
    const Padded from = Padded::normal(shape, 1, gap), before = Padded::normal(shape, 2, gap);
    Padded skip = before, overwrite = before, accumulate = before;
    ops::write(from.view(), Write::skip, skip.view(), stream);
    ops::write(from.view(), Write::overwrite, overwrite.view(), stream);
    ops::write(from.view(), Write::accumulate, accumulate.view(), stream);
    expect_each(
        skip, [&](Index r, Index c) { return before.at(r, c); }, "skip");
    expect_each(
        overwrite, [&](Index r, Index c) { return from.at(r, c); }, "overwrite");
    expect_each(
        accumulate, [&](Index r, Index c) { return from.at(r, c) + before.at(r, c); }, "accumulate");
  });
}

TEST(Elementwise, CopiesEveryDType) {
  Stream stream;
  for (const DType dtype :
       {DType::f32, DType::f64, DType::bf16, DType::i32, DType::i64, DType::u8, DType::q32, DType::u16}) {
    const std::size_t row = static_cast<std::size_t>(6 * size_of(dtype));  // 4 of 6 columns are copied
    std::vector<std::byte> from(5 * row), to(5 * row);
    for (std::size_t i = 0; i < from.size(); ++i) from[i] = static_cast<std::byte>(i + 1);
    const View source = View(from.data(), {{5, 6}, dtype}).slice(1, 1, 5);
    ops::copy(source, View(to.data(), {{5, 6}, dtype}).slice(1, 0, 4), stream);
    for (std::size_t r = 0; r < 5; ++r) {
      EXPECT_EQ(std::memcmp(&to[r * row], &from[r * row + row / 6], row / 6 * 4), 0) << name_of(dtype);
      for (std::size_t i = row / 6 * 4; i < row; ++i) EXPECT_EQ(to[r * row + i], std::byte{0}) << name_of(dtype);
    }
  }
}

TEST(ElementwiseDeathTest, RefusesOtherShapesAndDTypes) {
  Stream stream;
  Padded a({2, 3}), b({3, 2});
  EXPECT_DEATH(ops::add(a.view(), a.view(), b.view(), stream), "\\[3, 2\\]");
  std::vector<std::int32_t> integers(6);
  EXPECT_DEATH(ops::copy(a.view(), view_of(std::span(integers)).reshape({2, 3}), stream), "f32 to i32");
}

}  // namespace
}  // namespace plasmid
