// Plots: marks of axes, and files that are what their names say.
#include "launcher/bench/plot.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "tests/support/expect_error.hpp"
#include "tests/support/temporary_folder.hpp"

namespace plasmid::bench {
namespace {

std::string content_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

Plot two_lines() {
  return {"A <title> & more",
          "subtitle",
          "ranks",
          "seconds",
          {{"measured", {{1, 8, ""}, {2, 4.5, "0.89"}, {4, 2.5, "0.80"}}, false},
           {"ideal", {{1, 8, ""}, {4, 2, ""}}, true}}};
}

TEST(Plot, AxisMarksEnclose) {
  EXPECT_EQ(axis_marks(2, 8), (std::vector<double>{2, 5, 10}));
  EXPECT_EQ(axis_marks(1, 10), (std::vector<double>{1, 2, 5, 10}));
  EXPECT_EQ(axis_marks(7, 7), (std::vector<double>{5, 10}));
  EXPECT_EQ(axis_marks(5, 5), (std::vector<double>{5, 10}));
  const std::vector<double> wide = axis_marks(0.03, 4000);
  ASSERT_EQ(wide.size(), 7u);
  EXPECT_NEAR(wide.front(), 0.01, 1e-12);
  EXPECT_NEAR(wide.back(), 1e4, 1e-6);
  for (const double low : {1e-6, 0.37, 1.0, 19.0})
    for (const double span : {1.0, 1.01, 3.0, 50.0, 1e4}) {
      const std::vector<double> marks = axis_marks(low, low * span);
      EXPECT_GE(marks.size(), 2u);
      EXPECT_LE(marks.front(), low * (1 + 1e-9));
      EXPECT_GE(marks.back(), low * span * (1 - 1e-9));
      EXPECT_LE(marks.size(), 12u) << low << " times " << span;
    }
}

TEST(Plot, WritesBothPictures) {
  if (!can_plot()) GTEST_SKIP() << "built without Cairo";
  const TemporaryFolder folder;
  const auto svg = folder.path() / "plot.svg", png = folder.path() / "plot.png";
  draw(two_lines(), svg, png);
  const std::string vector = content_of(svg), pixels = content_of(png);
  EXPECT_TRUE(vector.starts_with("<?xml"));
  EXPECT_NE(vector.find("<svg"), std::string::npos);
  EXPECT_NE(vector.rfind("</svg>"), std::string::npos);
  EXPECT_EQ(pixels.substr(0, 8), "\x89PNG\r\n\x1a\n");
  EXPECT_NE(pixels.rfind("IEND"), std::string::npos);
  // Lines, their names and the labels of points are paths and glyphs; without the lines there are fewer.
  Plot bare = two_lines();
  bare.lines.pop_back();
  draw(bare, svg, png);
  EXPECT_LT(content_of(svg).size(), vector.size());
}

TEST(Plot, OnePointAndALineWithout) {
  if (!can_plot()) GTEST_SKIP() << "built without Cairo";
  const TemporaryFolder folder;
  draw({"", "", "", "", {{"one", {{3, 5, "label"}}, false}, {"none", {}, true}}}, folder.path() / "a.svg",
       folder.path() / "a.png");
  EXPECT_GT(std::filesystem::file_size(folder.path() / "a.png"), 1000u);
}

TEST(Plot, AFolderThatIsNotThere) {
  const ErrorCode code = can_plot() ? ErrorCode::io : ErrorCode::config;
  expect_error(code, {can_plot() ? "nowhere" : "Cairo"},
               [] { draw(two_lines(), "nowhere/plot.svg", "nowhere/plot.png"); });
}

}  // namespace
}  // namespace plasmid::bench
