#include "tests/bench/report.hpp"

#include <cstdio>
#include <vector>

namespace plasmid::bench {
namespace {

constexpr int kRuns = 7;

void report(const std::string& name, double amount, const char* unit, const std::function<double()>& ceiling,
            const char* ceiling_name, const Work& work) {
  std::vector<double> ceilings;
  const Series series = repeat(kRuns, work, nullptr, [&] { ceilings.push_back(ceiling()); });
  const double seconds = series.spread(Clock::thread).median;
  const double rate = amount / seconds, top = spread_of(ceilings).median;
  std::printf("%-44s %9.3f ms  %7.1f %s  %5.3f of the %s's %.1f\n", name.c_str(), seconds * 1e3, rate * 1e-9, unit,
              rate / top, ceiling_name, top * 1e-9);
  std::fflush(stdout);
}

}  // namespace

void report_flops(const std::string& name, double flops, const Work& work) {
  report(
      name, flops, "GFLOP/s", [] { return fma_rate(1); }, "FMA loop", work);
}

void report_bytes(const std::string& name, double bytes, const Work& work) {
  static Triad triad(1);
  report(
      name, bytes, "GB/s", [] { return triad.rate(); }, "triad", work);
}

}  // namespace plasmid::bench
