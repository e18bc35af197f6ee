#include "launcher/bench/scaling_plot.hpp"

#include <cstdio>

namespace plasmid::bench {

Plot plot_of(const ScalingPlot& scaling) {
  Plot plot;
  plot.title = scaling.weak ? "Weak scaling of a training step" : "Strong scaling of a training step";
  plot.subtitle = scaling.model + ", " + std::to_string(scaling.tokens) +
                  (scaling.weak ? " tokens a rank" : " tokens") + "; at each point: ideal / measured";
  plot.x_name = "ranks";
  plot.y_name = "seconds a step";
  PlotLine measured{"measured", {}, false}, ideal{"ideal FLOPs", {}, true};
  for (const ScalingPoint& point : scaling.points) {
    char efficiency[16] = "";
    if (!measured.points.empty()) std::snprintf(efficiency, sizeof efficiency, "%.2f", point.ideal / point.seconds);
    measured.points.push_back({static_cast<double>(point.ranks), point.seconds, efficiency});
    ideal.points.push_back({static_cast<double>(point.ranks), point.ideal, ""});
  }
  plot.lines = {std::move(measured), std::move(ideal)};
  return plot;
}

}  // namespace plasmid::bench
