#include "launcher/bench/measure.hpp"

#include <time.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "runtime/base/check.hpp"

namespace plasmid::bench {
namespace {

double read(clockid_t clock) {
  timespec time;
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

Times slowest(const Times& mine, Communicator& ranks) {
  std::array<double, 3> times = {mine.wall, mine.cpu, mine.thread};
  Stream stream;
  ranks.all_reduce(view_of(std::span<double>(times)), Reduce::max, stream).wait(stream);
  return {times[0], times[1], times[2]};
}

// The largest k for which the k-th smallest and k-th largest of n values hold the median with 15/16: the probability
// that they do not is twice that of fewer than k heads in n throws of a coin.
std::size_t order_statistic(std::size_t n) {
  const auto throws = static_cast<double>(n);
  const auto term = [&](std::size_t heads) {  // in logarithms: 2^-n is below all doubles from n = 1075 on
    const auto h = static_cast<double>(heads);
    return std::exp(std::lgamma(throws + 1) - std::lgamma(h + 1) - std::lgamma(throws - h + 1) -
                    throws * std::numbers::ln2);
  };
  double outside = 0;
  std::size_t k = 0;
  while (k < (n + 1) / 2 && outside + 2 * term(k) <= 1.0 / 16) outside += 2 * term(k++);
  return std::max<std::size_t>(k, 1);
}

}  // namespace

Times now() { return {read(CLOCK_MONOTONIC), read(CLOCK_PROCESS_CPUTIME_ID), read(CLOCK_THREAD_CPUTIME_ID)}; }

Times operator-(const Times& end, const Times& start) {
  return {end.wall - start.wall, end.cpu - start.cpu, end.thread - start.thread};
}

Spread spread_of(std::vector<double> values) {
  PLASMID_CHECK(!values.empty());
  std::ranges::sort(values);
  const std::size_t n = values.size(), k = order_statistic(n);
  return {(values[(n - 1) / 2] + values[n / 2]) / 2, values[k - 1], values[n - k]};
}

std::vector<double> Series::by(Clock clock) const {
  std::vector<double> seconds;
  for (const Times& times : all) seconds.push_back(clock == Clock::wall ? times.wall : times.thread);
  return seconds;
}

Times time_of(const Work& work, Communicator* ranks) {
  if (ranks) ranks->barrier();
  const Times start = now();
  work();
  const Times mine = now() - start;
  return ranks ? slowest(mine, *ranks) : mine;
}

Series repeat(int times, const Work& work, Communicator* ranks, const Work& between) {
  work();
  Series series;
  for (int i = 0; i < times; ++i) {
    if (between) between();
    series.all.push_back(time_of(work, ranks));
  }
  return series;
}

Spread Pair::ratio(Clock clock) const {
  const std::vector<double> below = a.by(clock);
  std::vector<double> ratios = b.by(clock);
  for (std::size_t i = 0; i < ratios.size(); ++i) ratios[i] /= below[i];
  return spread_of(ratios);
}

std::vector<double> Pair::difference(Clock clock) const {
  const std::vector<double> less = a.by(clock);
  std::vector<double> differences = b.by(clock);
  for (std::size_t i = 0; i < differences.size(); ++i) differences[i] -= less[i];
  return differences;
}

Pair alternate(int times, const Work& a, const Work& b, Communicator* ranks) {
  a(), b();
  Pair pair;
  for (int i = 0; i < times; ++i) {
    pair.a.all.push_back(time_of(a, ranks));
    pair.b.all.push_back(time_of(b, ranks));
  }
  return pair;
}

}  // namespace plasmid::bench
