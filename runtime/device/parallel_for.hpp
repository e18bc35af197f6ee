#pragma once
#include <omp.h>

#include <algorithm>

#include "runtime/base/index.hpp"

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace plasmid {

// What a team's begin and end order in memory, told to the thread sanitizer: it does not see libgomp's own barriers.
class TeamFences {
 public:
#if defined(__SANITIZE_THREAD__)
  TeamFences() { __tsan_release(&begin_); }
  void enter() { __tsan_acquire(&begin_); }
  void leave() { __tsan_release(&end_); }
  void join() { __tsan_acquire(&end_); }

 private:
  char begin_ = 0, end_ = 0;
#else
  void enter() {}
  void leave() {}
  void join() {}
#endif
};

// Calls body(thread, team) on each thread of a team of at most `threads`, and returns when all have. `body` must not
// throw. All parallel regions start here.
#if defined(__SANITIZE_THREAD__)
template <class Body>
__attribute__((no_sanitize("thread"), noinline))
#else
template <class Body>
#endif
void parallel_team(Index threads, Body&& body) {
  TeamFences fences;
#pragma omp parallel num_threads(static_cast <int>(threads))
  {
    fences.enter();
    body(Index{omp_get_thread_num()}, Index{omp_get_num_threads()});
    fences.leave();
  }
  fences.join();
}

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
  parallel_team(parts, [&](Index thread, Index team) {
    for (Index part = thread; part < parts; part += team) body(n * part / parts, n * (part + 1) / parts);
  });
}

}  // namespace plasmid
