#pragma once
#include <mpi.h>

#include <climits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "parallel/comm/activity.hpp"
#include "parallel/comm/mpi.hpp"
#include "parallel/comm/pool.hpp"
#include "runtime/base/unique_handle.hpp"

// Between MPI's C calls and the communicator: handles, counts, requests, errors.
namespace plasmid {

namespace mpi {

// Throws Error{io}: "all_reduce on rank 3: MPI_ERR_...".
void check(int code, const char* operation);

struct CommTraits {
  static MPI_Comm empty() { return MPI_COMM_NULL; }
  static void close(MPI_Comm) noexcept;  // nothing after MPI has ended
};
using Comm = UniqueHandle<MPI_Comm, CommTraits>;

struct TypeTraits {
  static MPI_Datatype empty() { return MPI_DATATYPE_NULL; }
  static void close(MPI_Datatype) noexcept;
};
using Type = UniqueHandle<MPI_Datatype, TypeTraits>;

MPI_Datatype type_of(DType);
MPI_Op op_of(Reduce);

// `count` elements as what MPI takes: count times the plain type, or once a derived type where count passes the limit.
// MPI keeps what pending operations use, so this may die once they are posted.
class Elements {
 public:
  Elements(DType, Index count, Index limit);
  int count() const { return count_; }
  MPI_Datatype type() const { return derived_ ? derived_.get() : plain_; }

 private:
  MPI_Datatype plain_;
  Type derived_;
  int count_;
};

// What a communicator's operations need, also those that outlive it.
struct Group {
  std::shared_ptr<MpiWorld::State> world;
  int size = 1;
  Traffic traffic;
};

// Requests that are awaited together. Made once and used again: the world owns them all.
//
// They are plain requests. Persistent ones (MPI_Send_init) would save what posting costs, 0.1 us where a hop takes
// milliseconds, and completed no sooner in any size: 0.4 us against 0.9 for 8 bytes, equal from 64 KiB on.
class Operation final : public Pending::Impl {
 public:
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;

  struct Retire {
    void operator()(Operation* operation) const noexcept { operation->retire(); }
  };
  using Ptr = std::unique_ptr<Operation, Retire>;
  // An idle one, or a new one. `name` is a literal.
  static Ptr start(const std::shared_ptr<Group>&, const char* name, bool exchange = false);
  static Pending track(Ptr);  // once all requests are posted

  const char* name() const { return name_; }
  MPI_Request* add();
  // True when it needs no further test: complete, or failed, which the wait reports.
  bool test() noexcept;
  void wait(Stream&) override;
  void retire() noexcept override;

 private:
  friend class plasmid::Pool<Operation>;
  Operation() = default;
  void complete() noexcept;

  const char* name_ = "";
  bool exchange_ = false, tracked_ = false, done_ = false, forgotten_ = false;
  int error_ = MPI_SUCCESS;       // of a test
  double posted_ = 0;             // seconds
  std::shared_ptr<Group> group_;  // while in use
  std::vector<MPI_Request> requests_;
};

}  // namespace mpi

struct MpiWorld::State {
  Index count_limit = INT_MAX;
  Pool<mpi::Operation> operations;
  std::vector<mpi::Operation*> outstanding;
  Activity activity;

  void poll() noexcept;
  // Returns MPI's code once all are complete. It tests over and over rather than wait inside MPI, which for Open MPI
  // and MPICH is the same work, so that a rank that is asked to end can call MPI_Abort, which its other threads may
  // not.
  int await(std::span<MPI_Request>, const char* operation, int group);
};

}  // namespace plasmid
