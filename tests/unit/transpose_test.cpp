#include "runtime/ops/transpose.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace plasmid {
namespace {

// Every element lands once in its place, for shapes that leave tails of rows and columns, out of a wider tensor.
TEST(Transpose, PutsEveryElementInItsPlace) {
  for (const Index rows : {0, 1, 3, 4, 5, 16, 47, 100})
    for (const Index columns : {1, 3, 4, 15, 16, 17, 64, 97, 200}) {
      const Index stride = columns + 3;
      std::vector<float> from(static_cast<std::size_t>(rows * stride + 1)),
          to(static_cast<std::size_t>(rows * columns + 1), -1);
      for (std::size_t i = 0; i < from.size(); ++i) from[i] = static_cast<float>(i);
      ops::transpose({from.data(), rows, columns, stride}, to.data());
      for (Index r = 0; r < rows; ++r)
        for (Index c = 0; c < columns; ++c)
          ASSERT_EQ(to[static_cast<std::size_t>(c * rows + r)], static_cast<float>(r * stride + c))
              << rows << " x " << columns;
      EXPECT_EQ(to.back(), -1) << rows << " x " << columns;
    }
}

}  // namespace
}  // namespace plasmid
