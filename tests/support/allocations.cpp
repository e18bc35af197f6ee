#include "tests/support/allocations.hpp"

#include <dlfcn.h>
#include <execinfo.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <sstream>
#include <string_view>

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define PLASMID_COUNTS_ALLOCATIONS 1
#endif

namespace plasmid::test {
namespace {

constexpr int kFrames = 12, kKept = 8;
struct Taken {
  std::array<void*, kFrames> frame{};
  int depth = 0;
  std::size_t bytes = 0;
};
std::array<Taken, kKept> kept;
std::atomic<bool> counting{false};
std::atomic<long> taken{0}, taken_bytes{0};
thread_local int not_counted = 0;

std::string_view library_of(void* address) {
  Dl_info info;
  return dladdr(address, &info) != 0 && info.dli_fname ? info.dli_fname : "";
}

// Whose buffers are its own affair: they are out of this program's reach.
bool is_foreign(std::string_view library) {
  for (const char* name : {"libdnnl", "libgomp", "libmpi", "libopen-", "mca_", "libpmix", "libevent", "libuc"})
    if (library.find(name) != library.npos) return true;
  return false;
}

[[maybe_unused]] void note(std::size_t bytes) {
  if (!counting || not_counted > 0) return;
  const NotCounted quietly;
  Taken now;
  now.bytes = bytes;
  now.depth = backtrace(now.frame.data(), kFrames);
  int caller = 2;  // after this function and the one that it serves
  while (caller < now.depth &&
         library_of(now.frame[static_cast<std::size_t>(caller)]).find("libstdc++") != std::string_view::npos)
    ++caller;
  if (caller < now.depth && is_foreign(library_of(now.frame[static_cast<std::size_t>(caller)]))) return;
  const long number = taken++;
  taken_bytes += static_cast<long>(bytes);
  if (number < kKept) kept[static_cast<std::size_t>(number)] = now;
}

}  // namespace

NotCounted::NotCounted() { ++not_counted; }
NotCounted::~NotCounted() { --not_counted; }

bool can_count_allocations() {
#ifdef PLASMID_COUNTS_ALLOCATIONS
  return true;
#else
  return false;
#endif
}

void start_counting_allocations() {
  void* frame = nullptr;
  backtrace(&frame, 1);  // its first call takes memory
  taken = 0, taken_bytes = 0;
  counting = true;
}

AllocationCount stop_counting_allocations() {
  counting = false;
  std::ostringstream text;
  for (int i = 0; i < std::min<long>(kKept, taken); ++i) {
    const Taken& one = kept[static_cast<std::size_t>(i)];
    text << "\n" << one.bytes << " bytes:";
    for (int f = 2; f < one.depth; ++f) {
      Dl_info info;
      auto* address = static_cast<std::byte*>(one.frame[static_cast<std::size_t>(f)]);
      if (dladdr(address, &info) != 0) text << " " << address - static_cast<std::byte*>(info.dli_fbase);
    }
  }
  return {taken, taken_bytes, text.str()};
}

}  // namespace plasmid::test

#ifdef PLASMID_COUNTS_ALLOCATIONS
// glibc's own functions under the names that stay when the others are replaced.
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t bytes) {
  plasmid::test::note(bytes);
  return __libc_malloc(bytes);
}
void* calloc(std::size_t count, std::size_t bytes) {
  plasmid::test::note(count * bytes);
  return __libc_calloc(count, bytes);
}
void* realloc(void* block, std::size_t bytes) {
  plasmid::test::note(bytes);
  return __libc_realloc(block, bytes);
}
void* memalign(std::size_t alignment, std::size_t bytes) {
  plasmid::test::note(bytes);
  return __libc_memalign(alignment, bytes);
}
void* aligned_alloc(std::size_t alignment, std::size_t bytes) {
  plasmid::test::note(bytes);
  return __libc_memalign(alignment, bytes);
}
int posix_memalign(void** block, std::size_t alignment, std::size_t bytes) {
  plasmid::test::note(bytes);
  *block = __libc_memalign(alignment, bytes);
  return *block ? 0 : ENOMEM;
}
}
#endif
