#include "parallel/comm/mpi.hpp"

#include <signal.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <utility>

#include "parallel/comm/contract.hpp"
#include "parallel/comm/mpi_support.hpp"
#include "runtime/base/error.hpp"

namespace plasmid {
namespace {

using mpi::check;
using mpi::Elements;
using mpi::op_of;
using mpi::Operation;
using mpi::type_of;

constexpr int kAllToAllTag = contract::kChannels;  // beside the channels of exchange

// Calls body(begin, count) over [0, total) in parts that MPI can count.
template <class Body>
void in_parts(Index total, Index limit, Body&& body) {
  for (Index begin = 0; begin < total; begin += limit) body(begin, static_cast<int>(std::min(limit, total - begin)));
}

class MpiCommunicator final : public Communicator {
 public:
  MpiCommunicator(std::shared_ptr<MpiWorld::State> world, MPI_Comm comm, bool owned)
      : world_(std::move(world)), group_(std::make_shared<mpi::Group>()) {
    comm_ = comm;
    if (owned) owner_.reset(comm);
    check(MPI_Comm_rank(comm, &rank_), "MPI_Comm_rank");
    check(MPI_Comm_size(comm, &size_), "MPI_Comm_size");
    group_->world = world_, group_->size = size_;
  }
  int rank() const override { return rank_; }
  int size() const override { return size_; }

  std::unique_ptr<Communicator> split(int color, int key) override;
  Pending all_reduce(View inout, Reduce, Stream&) override;
  Pending all_gather(ConstView in, View out, Stream&) override;
  Pending reduce_scatter(ConstView in, View out, Reduce, Stream&) override;
  Pending broadcast(View, int root, Stream&) override;
  Pending all_to_all_v(ConstView in, std::span<const Index> send, View out, std::span<const Index> recv,
                       Stream&) override;
  Pending exchange(std::span<const Transfer>, Stream&) override;

  std::uint64_t agree_max(std::uint64_t value) override {
    complete("agree_max", [&](MPI_Request* request) {
      return MPI_Iallreduce(MPI_IN_PLACE, &value, 1, MPI_UINT64_T, MPI_MAX, comm_, request);
    });
    return value;
  }
  void barrier() override {
    complete("barrier", [&](MPI_Request* request) { return MPI_Ibarrier(comm_, request); });
  }
  void poll() noexcept override { world_->poll(); }
  Traffic traffic() const override { return group_->traffic; }
  void abort() noexcept override { MPI_Abort(MPI_COMM_WORLD, static_cast<int>(ErrorCode::io)); }

 private:
  Index limit() const { return world_->count_limit; }
  Operation::Ptr start(const char* name, bool exchange = false) { return Operation::start(group_, name, exchange); }
  template <class Post>
  void complete(const char* name, Post&& post) {  // the blocking ones
    const auto operation = start(name);
    check(post(operation->add()), name);
    Stream host;
    operation->wait(host);
  }
  void send(Operation&, ConstView, int to, int tag);
  void receive(Operation&, View, int from, int tag);

  std::shared_ptr<MpiWorld::State> world_;
  std::shared_ptr<mpi::Group> group_;
  mpi::Comm owner_;
  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0, size_ = 1;
};

std::unique_ptr<Communicator> MpiCommunicator::split(int color, int key) {
  MPI_Comm part = MPI_COMM_NULL;
  const Activity::Wait wait(world_->activity, "split", size_);
  check(MPI_Comm_split(comm_, color < 0 ? MPI_UNDEFINED : color, key, &part), "split");
  if (part == MPI_COMM_NULL) return nullptr;
  return std::make_unique<MpiCommunicator>(world_, part, true);
}

Pending MpiCommunicator::all_reduce(View inout, Reduce op, Stream&) {
  contract::all_reduce(inout);
  auto operation = start("all_reduce");
  in_parts(inout.count(), limit(), [&](Index begin, int count) {
    check(MPI_Iallreduce(MPI_IN_PLACE, inout.data + begin * size_of(inout.dtype), count, type_of(inout.dtype),
                         op_of(op), comm_, operation->add()),
          operation->name());
  });
  return Operation::track(std::move(operation));
}

Pending MpiCommunicator::all_gather(ConstView in, View out, Stream&) {
  contract::parts_of(in, out, size_);
  auto operation = start("all_gather");
  // Implementations form part * rank in int: the whole output stays below the limit too.
  const Elements elements(in.dtype, in.count(), std::max<Index>(1, limit() / size_));
  const bool in_place = in.data == out.data + rank_ * in.spec().bytes();
  check(MPI_Iallgather(in_place ? MPI_IN_PLACE : in.data, elements.count(), elements.type(), out.data, elements.count(),
                       elements.type(), comm_, operation->add()),
        operation->name());
  return Operation::track(std::move(operation));
}

Pending MpiCommunicator::reduce_scatter(ConstView in, View out, Reduce op, Stream&) {
  contract::all_reduce(in);
  contract::parts_of(out, in, size_);
  auto operation = start("reduce_scatter");
  const MPI_Datatype type = type_of(in.dtype);
  const Index part = out.count(), bytes = size_of(in.dtype);
  if (in.count() <= limit()) {  // the whole input: implementations form its count in int
    check(
        MPI_Ireduce_scatter_block(in.data, out.data, static_cast<int>(part), type, op_of(op), comm_, operation->add()),
        operation->name());
    return Operation::track(std::move(operation));
  }
  for (int root = 0; root < size_; ++root)
    in_parts(part, limit(), [&](Index begin, int count) {
      check(MPI_Ireduce(in.data + (root * part + begin) * bytes, out.data + begin * bytes, count, type, op_of(op), root,
                        comm_, operation->add()),
            operation->name());
    });
  return Operation::track(std::move(operation));
}

Pending MpiCommunicator::broadcast(View view, int root, Stream&) {
  contract::travels(view);
  auto operation = start("broadcast");
  const Elements elements(view.dtype, view.count(), limit());
  check(MPI_Ibcast(view.data, elements.count(), elements.type(), root, comm_, operation->add()), operation->name());
  return Operation::track(std::move(operation));
}

// Point to point: MPI_Ialltoallv counts and places in int.
Pending MpiCommunicator::all_to_all_v(ConstView in, std::span<const Index> send_counts, View out,
                                      std::span<const Index> recv_counts, Stream&) {
  contract::all_to_all_v(in, send_counts, out, recv_counts, size_);
  auto operation = start("all_to_all_v");
  ConstView mine;
  Index begin = 0;
  for (int to = 0; to < size_; ++to) {
    const Index count = send_counts[static_cast<std::size_t>(to)];
    const ConstView part(in.data + begin * size_of(in.dtype), {{count}, in.dtype});
    begin += count;
    if (to == rank_) {
      mine = part;
    } else {
      send(*operation, part, to, kAllToAllTag);
    }
  }
  begin = 0;
  for (int from = 0; from < size_; ++from) {
    const Index count = recv_counts[static_cast<std::size_t>(from)];
    const View part(out.data + begin * size_of(out.dtype), {{count}, out.dtype});
    begin += count;
    if (from != rank_) {
      receive(*operation, part, from, kAllToAllTag);
      continue;
    }
    PLASMID_CHECK(mine.count() == count) << "to itself " << mine.count() << ", from itself " << count << " elements";
    if (count > 0) std::memcpy(part.data, mine.data, static_cast<std::size_t>(part.spec().bytes()));
  }
  return Operation::track(std::move(operation));
}

Pending MpiCommunicator::exchange(std::span<const Transfer> transfers, Stream&) {
  contract::exchange(transfers, size_);
  auto operation = start("exchange", true);
  for (const Transfer& transfer : transfers)
    if (transfer.from >= 0) receive(*operation, transfer.recv, transfer.from, transfer.channel);
  for (const Transfer& transfer : transfers)
    if (transfer.to >= 0) send(*operation, transfer.send, transfer.to, transfer.channel);
  return Operation::track(std::move(operation));
}

void MpiCommunicator::send(Operation& operation, ConstView view, int to, int tag) {
  const Elements elements(view.dtype, view.count(), limit());
  check(MPI_Isend(view.data, elements.count(), elements.type(), to, tag, comm_, operation.add()), operation.name());
  group_->traffic.sent_bytes += static_cast<double>(view.spec().bytes());
}

void MpiCommunicator::receive(Operation& operation, View view, int from, int tag) {
  const Elements elements(view.dtype, view.count(), limit());
  check(MPI_Irecv(view.data, elements.count(), elements.type(), from, tag, comm_, operation.add()), operation.name());
}

}  // namespace

namespace {

// MPI libraries install handlers that print a stack and allocate for it: in a process whose heap is broken they wait
// for ever, and the job with them. With these signals as they were before, a crashed rank is gone at once.
class KeepCrashSignals {
 public:
  KeepCrashSignals() {
    for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], nullptr, &before_[i]);
  }
  ~KeepCrashSignals() {
    for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &before_[i], nullptr);
  }
  KeepCrashSignals(const KeepCrashSignals&) = delete;
  KeepCrashSignals& operator=(const KeepCrashSignals&) = delete;

 private:
  static constexpr std::array kSignals = {SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV};
  std::array<struct sigaction, kSignals.size()> before_;
};

}  // namespace

MpiWorld::MpiWorld(int* argc, char*** argv) : state_(std::make_shared<State>()) {
  const KeepCrashSignals keep;
  for (const Setting& setting : transport_settings([](const char* name) { return std::getenv(name); }))
    setenv(setting.variable.c_str(), setting.value.c_str(), 0);
  int granted = MPI_THREAD_SINGLE;
  check(MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &granted), "MPI_Init_thread");
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
  communicator_ = std::make_unique<MpiCommunicator>(state_, MPI_COMM_WORLD, false);
  try {
    if (granted < MPI_THREAD_FUNNELED)
      throw Error(ErrorCode::config, "this MPI library grants no MPI_THREAD_FUNNELED, which computing ranks need");
    check_launch(communicator_->size(), [](const char* name) { return std::getenv(name); });
  } catch (...) {  // every rank fails alike, so ending MPI together is safe
    MPI_Finalize();
    throw;
  }
}

MpiWorld::~MpiWorld() {
  if (std::uncaught_exceptions() > 0) abort(static_cast<int>(ErrorCode::software));
  communicator_.reset();
  MPI_Finalize();
}

Activity& MpiWorld::activity() { return state_->activity; }

std::string MpiWorld::library() const {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  mpi::check(MPI_Get_library_version(text, &length), "library version");
  const std::string all(text, static_cast<std::size_t>(length));
  return all.substr(0, all.find_first_of(std::string_view("\n\0", 2)));
}

void MpiWorld::abort(int exit_code) noexcept {
  MPI_Abort(MPI_COMM_WORLD, exit_code);
  std::_Exit(exit_code);
}

void MpiWorld::set_count_limit(Index limit) {
  PLASMID_CHECK(1 <= limit && limit <= INT_MAX) << limit;
  state_->count_limit = limit;
}

void check_launch(int mpi_ranks, const Environment& environment) {
  const auto number = [&](const char* name) {
    const char* text = environment(name);
    return text ? std::strtol(text, nullptr, 10) : 0;
  };
  if (mpi_ranks > 1) return;
  // What a launcher of MPI tells of its own processes counts before what Slurm tells of the place.
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}) {
    if (!environment(name)) continue;
    if (number(name) > 1)
      throw Error(ErrorCode::config, std::string(name) + " is " + std::to_string(number(name)) +
                                         ", but MPI sees one rank: start the job with the mpirun of the MPI library "
                                         "that plasmid was built with");
    return;
  }
  // In a batch script SLURM_NTASKS is that of the allocation; in a step's task it is the step's.
  const bool in_step = environment("SLURM_STEP_ID") || environment("SLURM_STEP_NUM_TASKS");
  const char* name = environment("SLURM_STEP_NUM_TASKS") ? "SLURM_STEP_NUM_TASKS" : "SLURM_NTASKS";
  if (in_step && number(name) > 1)
    throw Error(ErrorCode::config, std::string(name) + " is " + std::to_string(number(name)) +
                                       ", but MPI sees one rank: start the job with `srun --mpi=pmix plasmid ...`");
}

}  // namespace plasmid
