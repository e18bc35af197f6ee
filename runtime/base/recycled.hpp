#pragma once
#include <cstddef>
#include <vector>

namespace plasmid {

// Memory for what every step makes and drops again, too small or too short-lived for an arena: a block that is given
// back waits on its thread for the next request of its size (rounded up to a power of two), so that after the first
// step the system is asked for nothing. A thread keeps what it held at its peak, until it ends. Under the address
// sanitizer blocks come from the system and go back to it.
void* take_recycled(std::size_t bytes);  // aligned for any scalar, and to 64 bytes from 64 bytes on
void give_recycled(void* block, std::size_t bytes) noexcept;

template <class T>
struct RecyclingAllocator {
  using value_type = T;
  RecyclingAllocator() = default;
  template <class U>
  RecyclingAllocator(const RecyclingAllocator<U>&) noexcept {}
  T* allocate(std::size_t count) { return static_cast<T*>(take_recycled(count * sizeof(T))); }
  void deallocate(T* block, std::size_t count) noexcept { give_recycled(block, count * sizeof(T)); }
  bool operator==(const RecyclingAllocator&) const = default;
};

template <class T>
using RecycledVector = std::vector<T, RecyclingAllocator<T>>;

}  // namespace plasmid
