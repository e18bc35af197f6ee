#pragma once
#include <omp.h>

#include <algorithm>

#include "runtime/base/index.hpp"

namespace plasmid {

// Calls body(begin, end) over [0, n) in contiguous parts, one a thread, none smaller than `grain` (but the last).
// The parts depend on n, grain and the team's size only. Inside a parallel region, or with one thread, it is one call.
// `body` must not throw.
template <class Body>
void parallel_for(Index n, Index grain, Body&& body) {
  if (n <= 0) return;
  const Index parts = std::min<Index>(omp_in_parallel() ? 1 : omp_get_max_threads(), std::max<Index>(1, n / grain));
  if (parts <= 1) {
    body(Index{0}, n);
    return;
  }
#pragma omp parallel for schedule(static, 1) num_threads(static_cast <int>(parts))
  for (Index part = 0; part < parts; ++part) body(n * part / parts, n * (part + 1) / parts);
}

}  // namespace plasmid
