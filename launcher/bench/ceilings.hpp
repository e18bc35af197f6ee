#pragma once
#include <memory>

#include "launcher/bench/measure.hpp"
#include "parallel/comm/communicator.hpp"

// What this machine does right now, to set beside what is measured in the same run.
namespace plasmid::bench {

// One short run each, by a team of `threads` of this rank, told by clock_for(threads): amounts a second. Results are
// checked.
double fma_rate(int threads);                  // FLOPs of register-only fused multiply-adds (multiply + add below AVX2)
double sgemm_rate(int threads, int n = 1024);  // FLOPs of oneDNN's product, n x n x n

// a = b + s c over arrays far beyond the caches, 192 MiB that live as long as this. Bytes: three streams counted, not
// the reading of a that most processors do before they write it.
class Triad {
 public:
  explicit Triad(int threads);  // each thread touches its part first
  double rate();                // of one run

 private:
  int threads_;
  std::unique_ptr<float[]> a_, b_, c_;
};

struct Ceilings {    // of one rank: medians of seven short runs
  double fma = 0;    // FLOP/s
  double sgemm = 0;  // FLOP/s, n = 1024
  double triad = 0;  // byte/s
};
// With `ranks` it is collective: all ranks run at once, and all get the rates of the slowest.
Ceilings measure_ceilings(int threads, Communicator* ranks = nullptr);

// Collective: each rank sends `bytes` to rank + 1 and receives as many from rank - 1, nothing else going on. Wall
// seconds of the slowest rank, `times` times after one to warm up. A ring of one copies nothing: zero seconds.
Series ring_shift(Communicator& ranks, Index bytes, int times = 7);

}  // namespace plasmid::bench
