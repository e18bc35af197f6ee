#include "runtime/tensor/arena.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "runtime/base/error.hpp"
#include "runtime/base/recycled.hpp"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

namespace plasmid {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr Index kRedZone = 64;  // poisoned, after each buffer: an overrun is found where it happens
#else
constexpr Index kRedZone = 0;
#endif
constexpr Index kLine = 64, kHugePage = Index{2} << 20;
constexpr Index kFirstStackBlock = Index{1} << 20;

template <class Key, class Value>
using RecycledMap = std::map<Key, Value, std::less<Key>, RecyclingAllocator<std::pair<const Key, Value>>>;
template <class Key, class Value>
using RecycledMultimap = std::multimap<Key, Value, std::less<Key>, RecyclingAllocator<std::pair<const Key, Value>>>;

struct Block {
  std::byte* data = nullptr;
  Index size = 0, used = 0;
};

bool wants_huge_pages() {
  const char* wanted = std::getenv("PLASMID_HUGE_PAGES");
  return wanted && std::string_view(wanted) == "1";
}

std::byte* allocate(Index bytes) {
  static const bool huge_pages = wants_huge_pages();
  // A block rounded up to whole pages may waste one: no more than an eighth of it.
  const Index unit = huge_pages && bytes >= 8 * kHugePage ? kHugePage : kLine;
  const auto size = static_cast<std::size_t>(round_up(std::max(bytes, kLine), unit));
  auto* data = static_cast<std::byte*>(std::aligned_alloc(static_cast<std::size_t>(unit), size));
  if (data && unit == kHugePage) ::madvise(data, size, MADV_HUGEPAGE);  // advice: ordinary pages serve as well
  if (data) ASAN_POISON_MEMORY_REGION(data, static_cast<std::size_t>(bytes));
  return data;
}

void deallocate(std::byte* data, Index bytes) {
  ASAN_UNPOISON_MEMORY_REGION(data, static_cast<std::size_t>(bytes));
  std::free(data);
}

}  // namespace

struct Arena::Impl {
  Kind kind;
  Ledger& ledger;
  Index budget;
  Device device;
  Index live = 0, peak = 0, allocations = 0, next_id = 0;
  std::set<std::string, std::less<>> tags;
  std::vector<Block> blocks;                 // stack: the last with used > 0 is the top
  std::vector<Index> order;                  // stack: ids alive, oldest first
  RecycledMultimap<Index, std::byte*> free;  // pool: size to block
  RecycledMap<std::byte*, Index> taken;      // pool: block to size

  Impl(Kind k, Ledger& l, Index b, Device d) : kind(k), ledger(l), budget(b), device(d) {}
  ~Impl() {
    for (const Block& block : blocks) deallocate(block.data, block.size);
    for (const auto& [size, data] : free) deallocate(data, size);
  }

  std::byte* request(Index bytes) {
    ++allocations;
    return allocate(bytes);
  }

  // The first block after the top that fits; blocks emptied by earlier steps are reused before a new one is made.
  std::byte* push(Index bytes) {
    std::size_t top = blocks.size();
    while (top > 0 && blocks[top - 1].used == 0) --top;
    for (std::size_t i = top == 0 ? 0 : top - 1; i < blocks.size(); ++i) {
      Block& block = blocks[i];
      if (block.size - block.used < bytes) continue;
      std::byte* data = block.data + block.used;
      block.used += bytes;
      return data;
    }
    const Index size = std::max(bytes, blocks.empty() ? kFirstStackBlock : blocks.back().size);
    std::byte* data = request(size);
    if (data) blocks.push_back({data, size, bytes});
    return data;
  }

  void pop(std::byte* data, Index bytes) {
    for (std::size_t i = blocks.size(); i-- > 0;) {
      Block& block = blocks[i];
      if (block.used == 0) continue;
      PLASMID_CHECK(data + bytes == block.data + block.used) << "a stack buffer given back out of order";
      block.used -= bytes;
      return;
    }
    PLASMID_CHECK(false) << "a stack buffer given back twice";
  }

  std::byte* find(Index bytes) {
    const auto fit = free.lower_bound(bytes);
    if (fit != free.end() && fit->first <= 2 * bytes + kLine) {
      std::byte* data = fit->second;
      taken.emplace(data, fit->first);
      free.erase(fit);
      return data;
    }
    std::byte* data = request(bytes);
    if (!data && !free.empty()) {  // blocks of other sizes may be what the machine lacks
      for (const auto& [size, block] : free) deallocate(block, size);
      free.clear();
      data = request(bytes);
    }
    if (data) taken.emplace(data, bytes);
    return data;
  }

  [[noreturn]] void refuse(Index bytes, std::string_view tag) {
    const std::string limit = budget == kNoBudget ? "the machine refuses" : "the budget is " + human_bytes(budget);
    throw Error(ErrorCode::memory, "out of memory: " + std::string(tag) + " wants " + human_bytes(bytes) + " beside " +
                                       human_bytes(ledger.live_bytes()) + " held; " + limit +
                                       "; largest: " + ledger.largest_tags(4));
  }

  void give_back(std::byte* data, Index bytes, Index id, std::string_view tag) {
    ASAN_POISON_MEMORY_REGION(data, static_cast<std::size_t>(bytes));
    if (kind == Kind::stack) {
      PLASMID_CHECK(!order.empty() && order.back() == id) << "a stack buffer given back out of order: " << tag;
      order.pop_back();
      pop(data, std::max(bytes, kLine) + kRedZone);
    } else {
      const auto entry = taken.find(data);
      PLASMID_CHECK(entry != taken.end()) << "a buffer given back twice: " << tag;
      free.emplace(entry->second, data);
      taken.erase(entry);
    }
    live -= bytes;
    ledger.remove(tag, bytes);
  }
};

Arena::Arena(Kind kind, Ledger& ledger, Index budget_bytes, Device device)
    : impl_(std::make_shared<Impl>(kind, ledger, budget_bytes, device)) {}

Buffer Arena::take(const TensorSpec& spec, std::string_view tag) {
  Impl& arena = *impl_;
  const Index bytes = arena_bytes(spec);
  if (bytes > arena.budget - arena.live) arena.refuse(bytes, tag);
  const Index room = std::max(bytes, kLine) + kRedZone;  // an empty tensor still has an address of its own
  std::byte* data = arena.kind == Kind::stack ? arena.push(room) : arena.find(room);
  if (!data) arena.refuse(bytes, tag);
  ASAN_UNPOISON_MEMORY_REGION(data, static_cast<std::size_t>(spec.bytes()));
#ifndef NDEBUG
  std::memset(data, 0xFF, static_cast<std::size_t>(spec.bytes()));
#endif
  auto known = arena.tags.find(tag);
  if (known == arena.tags.end()) known = arena.tags.emplace(tag).first;
  arena.live += bytes;
  arena.peak = std::max(arena.peak, arena.live);
  arena.ledger.add(tag, bytes);

  Buffer buffer;
  buffer.arena_ = impl_;
  buffer.tag_ = *known;
  buffer.id_ = arena.next_id++;
  buffer.view_ = View(data, spec, arena.device);
  if (arena.kind == Kind::stack) arena.order.push_back(buffer.id_);
  return buffer;
}

Index Arena::live_bytes() const { return impl_->live; }
Index Arena::peak_bytes() const { return impl_->peak; }
void Arena::restart_peak() { impl_->peak = impl_->live; }
Index Arena::allocations() const { return impl_->allocations; }
Ledger& Arena::ledger() const { return impl_->ledger; }

Buffer::Buffer(Buffer&& other) noexcept
    : arena_(std::move(other.arena_)), tag_(other.tag_), id_(other.id_), view_(std::exchange(other.view_, {})) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this != &other) {
    reset();
    arena_ = std::move(other.arena_);
    tag_ = other.tag_;
    id_ = other.id_;
    view_ = std::exchange(other.view_, {});
  }
  return *this;
}

Buffer::~Buffer() { reset(); }

void Buffer::reset() {
  if (!arena_) return;
  arena_->give_back(view_.data, arena_bytes(view_.spec()), id_, tag_);
  arena_.reset();
  view_ = {};
}

}  // namespace plasmid
