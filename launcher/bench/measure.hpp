#pragma once
#include <functional>
#include <vector>

#include "parallel/comm/communicator.hpp"

namespace plasmid::bench {

struct Times {  // seconds
  double wall = 0;
  double cpu = 0;     // of all threads of this process
  double thread = 0;  // of the calling thread; a core that was lent to another process does not count
};
Times now();
Times operator-(const Times& end, const Times& start);

// Which of them a rate is told by: one thread that waits for nobody by its own CPU time, so that a busy machine takes
// little from it; several threads, or ranks that wait for each other, by wall time.
enum class Clock { wall, thread };
constexpr Clock clock_for(int threads, int ranks = 1) {
  return threads == 1 && ranks == 1 ? Clock::thread : Clock::wall;
}
constexpr const char* name_of(Clock clock) { return clock == Clock::wall ? "wall" : "thread CPU"; }

// The median of values and the narrowest pair of their order statistics, as far from either end, that holds the median
// of the distribution with a probability of 15/16 or more, whatever the distribution: the ends up to 8 values.
// (Conover 1971: confidence intervals of quantiles.) Not empty.
struct Spread {
  double median = 0, low = 0, high = 0;
  bool holds(double value) const { return low <= value && value <= high; }
  double width() const { return median == 0 ? 0 : (high - low) / median; }  // as a fraction of the median
};
Spread spread_of(std::vector<double> values);

struct Series {  // repetitions, in order
  std::vector<Times> all;
  std::vector<double> by(Clock) const;
  Spread spread(Clock clock) const { return spread_of(by(clock)); }
};

using Work = std::function<void()>;

// One call. With `ranks` it is collective: all begin together, and all get the times of the slowest, each of the three
// on its own.
Times time_of(const Work&, Communicator* ranks = nullptr);

// Calls `work` `times` times, after one that warms it up; `between` runs before each, untimed.
Series repeat(int times, const Work& work, Communicator* ranks = nullptr, const Work& between = {});

// Two workloads, call by call in turn, after one call of each that warms it up: what happens to the machine meanwhile
// happens to both.
struct Pair {
  Series a, b;
  Spread ratio(Clock) const;                    // of b to a, call by call
  std::vector<double> difference(Clock) const;  // b - a
};
Pair alternate(int times, const Work& a, const Work& b, Communicator* ranks = nullptr);

}  // namespace plasmid::bench
