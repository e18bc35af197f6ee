#include "runtime/base/recycled.hpp"

#include <array>
#include <bit>
#include <new>

namespace plasmid {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kRecycles = false;
#else
constexpr bool kRecycles = true;
#endif
constexpr std::size_t kLeastBytes = 64;
constexpr std::size_t kClasses = 64;

struct Spare {
  Spare* next;
};

// Usable while no constructor of a thread's objects has run and after all their destructors have.
struct SpareLists {
  std::array<Spare*, kClasses> first;
  bool ended;
};
thread_local constinit SpareLists spares{};

void release(void* block) noexcept { ::operator delete (block, std::align_val_t{kLeastBytes}); }

// Empties this thread's lists when it ends; what is given back later goes straight to the system.
struct Emptying {
  ~Emptying() {
    spares.ended = true;
    for (Spare*& first : spares.first)
      while (first) {
        Spare* const block = first;
        first = block->next;
        release(block);
      }
  }
};

std::size_t class_of(std::size_t bytes) {
  return static_cast<std::size_t>(std::bit_width(bytes <= kLeastBytes ? kLeastBytes - 1 : bytes - 1));
}

}  // namespace

void* take_recycled(std::size_t bytes) {
  const std::size_t size_class = class_of(bytes);
  if (size_class >= kClasses - 1) throw std::bad_array_new_length();
  if (Spare* const block = spares.first[size_class]) {
    spares.first[size_class] = block->next;
    return block;
  }
  return ::operator new (std::size_t{1} << size_class, std::align_val_t{kLeastBytes});
}

void give_recycled(void* block, std::size_t bytes) noexcept {
  if (!block) return;
  if (!kRecycles || spares.ended) return release(block);
  thread_local const Emptying at_the_end;
  static_cast<void>(at_the_end);
  Spare*& first = spares.first[class_of(bytes)];
  first = new (block) Spare{first};
}

}  // namespace plasmid
