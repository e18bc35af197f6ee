#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "runtime/base/index.hpp"
#include "runtime/device/stream.hpp"
#include "runtime/tensor/view.hpp"

namespace plasmid {

// A transfer in flight. The buffers it names stay alive and untouched until wait(). One that nobody waited for is a
// CHECK failure, except while an exception unwinds. Default-made: nothing in flight, wait() returns at once.
class [[nodiscard]] Pending {
 public:
  struct Impl {
    virtual ~Impl() = default;
    virtual void wait(Stream&) = 0;
    // Nobody refers to it any longer: a back end may keep it for its next operation, so that a step allocates nothing.
    virtual void retire() noexcept { delete this; }
  };
  Pending() = default;
  explicit Pending(std::unique_ptr<Impl> impl) : impl_(impl.release()) {}
  explicit Pending(Impl& kept_by_its_owner) : impl_(&kept_by_its_owner) {}
  Pending(Pending&&) noexcept = default;
  Pending& operator=(Pending&&) noexcept;
  ~Pending();
  void wait(Stream& consumer);  // the consumer's later work sees the result and may reuse the inputs
  explicit operator bool() const { return impl_ != nullptr; }

 private:
  struct Retire {
    void operator()(Impl* impl) const noexcept { impl->retire(); }
  };
  std::unique_ptr<Impl, Retire> impl_;
};

enum class Reduce : std::uint8_t { sum, max };

struct Transfer {  // one side may be absent (-1): the end of a chain, a pruned hop
  ConstView send;
  int to = -1;
  View recv;
  int from = -1;
  int channel = 0;  // transfers of one pair on one channel match in the order of posting; 0 to 15
};

// What a communicator did for this rank since it was made; differences of two looks tell what a step or a pass did.
struct Traffic {
  double sent_bytes = 0;        // point to point
  double flight_seconds = 0;    // of each exchange, from its posting until a poll or a wait found it complete
  double exchange_wait = 0;     // seconds in waits for exchanges: what computing did not hide, late peers included
  double collective_wait = 0;   // the same of all else: sums, agreements, barriers
  std::uint64_t exchanges = 0;  // that took part in the above
  Traffic operator-(const Traffic& before) const;
};

// A group of ranks. Operations run on the communicator's own stream, after the work already on `after`; every member
// calls the same collectives in the same order with the same counts and dtypes (CHECKed where the back end can see it).
// Views are contiguous; any dtype travels, f32, f64, i32 and i64 reduce. Sums are formed in an order that depends on
// the group alone, so a repeated call gives the same bits, and all members get the same bits. Errors: a broken
// transport throws Error{io} naming the operation and the rank. Not thread-safe: one thread a rank.
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual std::unique_ptr<Communicator> split(int color, int key) = 0;  // collective; as MPI_Comm_split
  virtual Pending all_reduce(View inout, Reduce, Stream& after) = 0;
  // out: size() parts of in's count, by rank; `in` may be this rank's part of out. No other two views may overlap.
  virtual Pending all_gather(ConstView in, View out, Stream& after) = 0;
  virtual Pending reduce_scatter(ConstView in, View out, Reduce, Stream& after) = 0;  // in: size() parts of out's count
  virtual Pending broadcast(View, int root, Stream& after) = 0;
  virtual Pending all_to_all_v(ConstView in, std::span<const Index> send, View out, std::span<const Index> recv,
                               Stream& after) = 0;  // counts in elements, by rank, packed one after another
  virtual Pending exchange(std::span<const Transfer>, Stream& after) = 0;  // point to point, one group
  virtual std::uint64_t agree_max(std::uint64_t) = 0;  // host value, blocking: errors, signals, schedule hashes
  virtual void barrier() = 0;
  virtual void poll() noexcept = 0;  // makes progress; compute calls it between tile rows
  virtual Traffic traffic() const { return {}; }
  virtual void abort() noexcept = 0;  // frees the peers of a failing rank: their waits throw or their processes end
};

}  // namespace plasmid
