#include "launcher/bench/plot.hpp"

#include <cmath>

#include "runtime/base/check.hpp"
#include "runtime/base/error.hpp"

namespace plasmid::bench {

std::vector<double> axis_marks(double low, double high) {
  PLASMID_CHECK(0 < low && low <= high && std::isfinite(high)) << low << " to " << high;
  const bool few = high / low < 200;
  std::vector<double> marks;
  for (double power = std::pow(10, std::floor(std::log10(low)));; power *= 10)
    for (const double step : {1.0, 2.0, 5.0}) {
      if (!few && step > 1) continue;
      const double mark = step * power;
      if (mark <= low * (1 + 1e-9)) marks.assign(1, mark);  // the nearest below
      if (mark > low * (1 + 1e-9)) marks.push_back(mark);
      if (mark >= high * (1 - 1e-9) && marks.size() > 1) return marks;
    }
}

#ifndef PLASMID_CAIRO
bool can_plot() { return false; }

void draw(const Plot&, const std::filesystem::path&, const std::filesystem::path&) {
  throw Error(ErrorCode::config, "this plasmid was built without Cairo and draws no plots");
}
#endif

}  // namespace plasmid::bench
