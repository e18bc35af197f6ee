#pragma once
#include <cstdint>

namespace plasmid {

// A thread waits for the disk to take what was written: the call may last minutes, in which the process moves no byte
// and uses no processor. These tell others that such a wait is under way.
struct Syncs {
  int under_way = 0;
  std::uint64_t ended = 0;
};
Syncs syncs_of_process() noexcept;  // by any thread

class Syncing {  // for as long as it lives
 public:
  Syncing() noexcept;
  ~Syncing();
  Syncing(const Syncing&) = delete;
  Syncing& operator=(const Syncing&) = delete;
};

int sync_to_disk(int descriptor) noexcept;  // fsync, told so: 0, or -1 and errno

}  // namespace plasmid
