#include "runtime/io/sync.hpp"

#include <unistd.h>

#include <atomic>

namespace plasmid {
namespace {

std::atomic<int> under_way{0};
std::atomic<std::uint64_t> ended{0};

}  // namespace

Syncs syncs_of_process() noexcept { return {under_way, ended}; }

Syncing::Syncing() noexcept { ++under_way; }

Syncing::~Syncing() {
  ++ended;
  --under_way;
}

int sync_to_disk(int descriptor) noexcept {
  const Syncing told;
  return ::fsync(descriptor);
}

}  // namespace plasmid
