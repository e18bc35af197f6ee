#pragma once
#include <string>

namespace plasmid::test {

// Counts what the program asks of malloc, calloc, realloc and their aligned kin, on all threads, hence operator new
// too. Not counted: what oneDNN, OpenMP's run-time and an MPI library take for themselves, and what happens under a
// NotCounted. False where the C library or a sanitizer does not let these functions be replaced.
bool can_count_allocations();

void start_counting_allocations();
struct AllocationCount {
  long count = 0, bytes = 0;
  std::string where;  // the call stacks of the first few, as addresses of this program
};
AllocationCount stop_counting_allocations();

class NotCounted {  // on the calling thread, for as long as it lives
 public:
  NotCounted();
  NotCounted(const NotCounted&) = delete;
  NotCounted& operator=(const NotCounted&) = delete;
  ~NotCounted();
};

}  // namespace plasmid::test
