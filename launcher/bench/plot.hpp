#pragma once
#include <filesystem>
#include <string>
#include <vector>

namespace plasmid::bench {

struct PlotPoint {
  double x = 0, y = 0;  // above 0
  std::string label;    // beside it; may be empty
};
struct PlotLine {
  std::string name;               // beside its last point
  std::vector<PlotPoint> points;  // by ascending x
  bool dashed = false;            // what it is measured against
};

// Lines over two logarithmic axes.
struct Plot {
  std::string title, subtitle;
  std::string x_name, y_name;  // with units
  std::vector<PlotLine> lines;
};

// Values between which a logarithmic axis over [low, high] is marked: powers of ten, with 2 and 5 between them where
// there are few. At least two.
std::vector<double> axis_marks(double low, double high);

bool can_plot();  // built with Cairo

// Writes both pictures. Throws Error{config} where built without Cairo, Error{io} for what cannot be written.
void draw(const Plot&, const std::filesystem::path& svg, const std::filesystem::path& png);

}  // namespace plasmid::bench
