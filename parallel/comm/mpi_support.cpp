#include "parallel/comm/mpi_support.hpp"

#include <cstdlib>

#include "runtime/base/error.hpp"

namespace plasmid {
namespace mpi {

void check(int code, const char* operation) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0, rank = -1;
  MPI_Error_string(code, text, &length);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  throw Error(ErrorCode::io, std::string(operation) + " on rank " + std::to_string(rank) + ": " +
                                 std::string(text, static_cast<std::size_t>(length)));
}

void CommTraits::close(MPI_Comm comm) noexcept {
  int ended = 0;
  MPI_Finalized(&ended);
  if (!ended) MPI_Comm_free(&comm);
}

void TypeTraits::close(MPI_Datatype type) noexcept { MPI_Type_free(&type); }

MPI_Datatype type_of(DType type) {
  switch (type) {
    case DType::f32:
      return MPI_FLOAT;
    case DType::f64:
      return MPI_DOUBLE;
    case DType::i64:
      return MPI_INT64_T;
    case DType::bf16:
    case DType::u16:
      return MPI_UINT16_T;
    case DType::u8:
      return MPI_UINT8_T;
    case DType::i32:
    case DType::q32:
      return MPI_INT32_T;
  }
  PLASMID_CHECK(false) << "dtype " << static_cast<int>(type);
  return MPI_DATATYPE_NULL;
}

MPI_Op op_of(Reduce op) { return op == Reduce::sum ? MPI_SUM : MPI_MAX; }

Elements::Elements(DType dtype, Index count, Index limit) : plain_(type_of(dtype)), count_(1) {
  if (count <= limit) {
    count_ = static_cast<int>(count);
    return;
  }
  const int block = static_cast<int>(limit);
  const Index blocks = count / limit;
  PLASMID_CHECK(blocks <= INT_MAX) << count << " elements";
  MPI_Datatype whole = MPI_DATATYPE_NULL, rest = MPI_DATATYPE_NULL, both = MPI_DATATYPE_NULL;
  check(MPI_Type_vector(static_cast<int>(blocks), block, block, plain_, &whole), "MPI_Type_vector");
  const Type whole_owner(whole);
  check(MPI_Type_contiguous(static_cast<int>(count % limit), plain_, &rest), "MPI_Type_contiguous");
  const Type rest_owner(rest);
  const int lengths[] = {1, 1};
  const MPI_Aint begins[] = {0, static_cast<MPI_Aint>(blocks * limit * size_of(dtype))};
  const MPI_Datatype types[] = {whole, rest};
  check(MPI_Type_create_struct(2, lengths, begins, types, &both), "MPI_Type_create_struct");
  derived_.reset(both);
  check(MPI_Type_commit(&both), "MPI_Type_commit");
}

namespace {

struct OperationPending final : Pending::Impl {
  std::shared_ptr<MpiWorld::State> world;
  std::shared_ptr<Operation> operation;
  OperationPending(std::shared_ptr<MpiWorld::State> w, std::shared_ptr<Operation> o)
      : world(std::move(w)), operation(std::move(o)) {}
  void wait(Stream&) override {
    check(operation->error, operation->name);
    if (operation->done) return;
    world->outstanding.remove(operation);
    const int code = world->await(operation->requests, operation->name, operation->group);
    operation->done = true;
    check(code, operation->name);
  }
};

}  // namespace
}  // namespace mpi

Pending MpiWorld::State::track(std::shared_ptr<mpi::Operation> operation, std::shared_ptr<State> self) {
  outstanding.push_back(operation);
  return Pending(std::make_unique<mpi::OperationPending>(std::move(self), std::move(operation)));
}

int MpiWorld::State::await(std::vector<MPI_Request>& requests, const char* operation, int group) {
  const Activity::Wait wait(activity, operation, group);
  for (int done = 0;;) {
    const int code = MPI_Testall(static_cast<int>(requests.size()), requests.data(), &done, MPI_STATUSES_IGNORE);
    if (done || code != MPI_SUCCESS) return code;
    if (const int status = activity.end_asked()) {
      MPI_Abort(MPI_COMM_WORLD, status);
      std::_Exit(status);
    }
  }
}

void MpiWorld::State::poll() noexcept {
  activity.tick();
  for (auto next = outstanding.begin(); next != outstanding.end();) {
    mpi::Operation& operation = **next;
    int done = 0;
    operation.error =
        MPI_Testall(static_cast<int>(operation.requests.size()), operation.requests.data(), &done, MPI_STATUSES_IGNORE);
    operation.done = done != 0;
    next = done || operation.error != MPI_SUCCESS ? outstanding.erase(next) : std::next(next);
  }
}

}  // namespace plasmid
