#pragma once
#include "launcher/bench/plot.hpp"
#include "runtime/base/index.hpp"

namespace plasmid::bench {

struct ScalingPoint {
  int ranks = 1;
  double seconds = 0, ideal = 0;  // of a step
};
struct ScalingPlot {
  bool weak = false;
  Index tokens = 0;  // of the window; weak: of each rank
  std::string model;
  std::vector<ScalingPoint> points;  // by ascending ranks
};

// Measured and ideal seconds over ranks; each measured point beyond the first tells its efficiency.
Plot plot_of(const ScalingPlot&);

}  // namespace plasmid::bench
