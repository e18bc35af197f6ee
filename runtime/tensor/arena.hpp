#pragma once
#include <memory>
#include <string_view>

#include "runtime/base/shape.hpp"
#include "runtime/device/device.hpp"
#include "runtime/tensor/ledger.hpp"
#include "runtime/tensor/view.hpp"

namespace plasmid {

class Buffer;

// Hands out tensors and takes their bytes back for reuse. Two disciplines:
//   stack  what forward leaves for backward: given back in the strict reverse order of the taking (CHECKed), so there
//   is
//          no fragmentation and the peak is known beforehand
//   pool   temporaries, weights, buffers with a transfer in flight: any order; blocks are reused by best fit
// Every buffer starts on a 64-byte line and counts as whole lines (`arena_bytes`). Not thread-safe: one rank's main
// thread. Buffers may outlive the Arena object; the ledger must outlive both. Debug builds fill new memory with NaN.
// Memory is left untouched, so that it comes to lie near the threads that first write it. Where PLASMID_HUGE_PAGES is 1
// in the environment, blocks of 16 MiB and more ask for huge pages (madvise).
class Arena {
 public:
  enum class Kind { stack, pool };
  static constexpr Index kNoBudget = INT64_MAX;

  Arena(Kind, Ledger&, Index budget_bytes = kNoBudget, Device = {});

  // Uninitialised. `tag` names the use in the ledger. Throws Error{memory} naming the request, the budget and the
  // largest tags when the budget or the machine does not hold it.
  Buffer take(const TensorSpec&, std::string_view tag);
  Index live_bytes() const;
  Index peak_bytes() const;
  void restart_peak();
  Index allocations() const;  // requests to the operating system so far; constant after the first step
  Ledger& ledger() const;

 private:
  friend class Buffer;
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

constexpr Index arena_bytes(const TensorSpec& spec) { return round_up(spec.bytes(), 64); }

class Buffer {  // owns one tensor of an arena; move-only; gives its bytes back when it dies
 public:
  Buffer() = default;
  Buffer(Buffer&&) noexcept;
  Buffer& operator=(Buffer&&) noexcept;
  ~Buffer();

  View view() const { return view_; }
  explicit operator bool() const { return arena_ != nullptr; }
  void reset();

 private:
  friend class Arena;
  std::shared_ptr<Arena::Impl> arena_;
  std::string_view tag_;  // points into the arena's own table
  Index id_ = 0;
  View view_;
};

}  // namespace plasmid
