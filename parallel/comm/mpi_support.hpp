#pragma once
#include <mpi.h>

#include <climits>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "parallel/comm/activity.hpp"
#include "parallel/comm/mpi.hpp"
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

struct Operation {  // requests that are awaited together
  const char* name = "";
  int group = 1;  // ranks
  std::vector<MPI_Request> requests;
  int error = MPI_SUCCESS;  // of a poll; reported by the wait
  bool done = false;
};

}  // namespace mpi

struct MpiWorld::State {
  Index count_limit = INT_MAX;
  std::list<std::shared_ptr<mpi::Operation>> outstanding;
  Activity activity;

  Pending track(std::shared_ptr<mpi::Operation>, std::shared_ptr<State> self);
  void poll() noexcept;
  // Returns MPI's code once all are complete. It tests over and over rather than wait inside MPI, which for Open MPI
  // and MPICH is the same work, so that a rank that is asked to end can call MPI_Abort, which its other threads may
  // not.
  int await(std::vector<MPI_Request>&, const char* operation, int group);
};

}  // namespace plasmid
