#include "parallel/comm/mpi_support.hpp"

#include <chrono>
#include <cstdlib>
#include <utility>

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

double seconds() noexcept {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

Operation::Ptr Operation::start(const std::shared_ptr<Group>& group, const char* name, bool exchange) {
  Ptr operation(&group->world->operations.take());
  operation->name_ = name, operation->exchange_ = exchange, operation->group_ = group;
  operation->tracked_ = operation->done_ = operation->forgotten_ = false;
  operation->error_ = MPI_SUCCESS;
  operation->requests_.clear();
  operation->posted_ = seconds();
  return operation;
}

MPI_Request* Operation::add() {
  requests_.push_back(MPI_REQUEST_NULL);
  return &requests_.back();
}

Pending Operation::track(Ptr operation) {
  operation->group_->world->outstanding.push_back(operation.get());
  operation->tracked_ = true;
  return Pending(*operation.release());
}

void Operation::complete() noexcept {
  done_ = true;
  if (!exchange_) return;
  group_->traffic.flight_seconds += seconds() - posted_;
  ++group_->traffic.exchanges;
}

bool Operation::test() noexcept {
  int done = 0;
  error_ = MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &done, MPI_STATUSES_IGNORE);
  if (done) complete();
  if (!done && error_ == MPI_SUCCESS) return false;
  tracked_ = false;
  if (forgotten_) retire();
  return true;
}

void Operation::wait(Stream&) {
  check(error_, name_);
  if (done_) return;
  std::erase(group_->world->outstanding, this);
  tracked_ = false;
  const double begin = seconds();
  const int code = group_->world->await(requests_, name_, group_->size);
  (exchange_ ? group_->traffic.exchange_wait : group_->traffic.collective_wait) += seconds() - begin;
  complete();
  check(code, name_);
}

void Operation::retire() noexcept {
  forgotten_ = true;
  if (tracked_) return;  // in flight while an exception unwinds: a later poll finds it complete
  const std::shared_ptr<Group> group = std::move(group_);  // perhaps the last hold on the world, and thus on this
  group->world->operations.give(*this);
}

}  // namespace mpi

int MpiWorld::State::await(std::span<MPI_Request> requests, const char* operation, int group) {
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
  std::erase_if(outstanding, [](mpi::Operation* operation) { return operation->test(); });
}

}  // namespace plasmid
