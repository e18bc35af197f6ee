#include "tests/support/ranks.hpp"

#include <gtest/gtest.h>

#include <exception>
#include <iostream>
#include <ostream>
#include <thread>
#include <vector>

#include "parallel/comm/self.hpp"
#ifdef PLASMID_MPI
#include "parallel/comm/mpi.hpp"
#endif

namespace plasmid::test {
namespace {

MpiWorld* g_mpi_world = nullptr;

#ifdef PLASMID_MPI
// MPI's peers cannot be released by an exception, so a failing rank says why and ends the job.
void run_on_mpi(const RankBody& body, Index count_limit) {
  Communicator& world = g_mpi_world->communicator();
  try {
    const std::unique_ptr<Communicator> group = world.split(0, world.rank());
    g_mpi_world->set_count_limit(count_limit);
    body(*group);
    g_mpi_world->set_count_limit(INT_MAX);
    if (!testing::Test::HasFatalFailure()) return;
    std::cerr << "rank " << world.rank() << " failed an assertion; ending the job\n";
  } catch (const std::exception& error) {
    std::cerr << "rank " << world.rank() << " of " << world.size() << ": " << error.what() << std::endl;
  }
  world.abort();
}
#endif

}  // namespace

void run_ranks(ThreadWorld& world, int ranks, const RankBody& body) {
  std::vector<std::exception_ptr> errors(static_cast<std::size_t>(ranks));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank)
    threads.emplace_back([&, rank] {
      const std::unique_ptr<Communicator> communicator = world.communicator(rank);
      try {
        body(*communicator);
        if (!testing::Test::HasFatalFailure()) return;
      } catch (...) {
        errors[static_cast<std::size_t>(rank)] = std::current_exception();
      }
      communicator->abort();
    });
  for (std::thread& thread : threads) thread.join();
  // The others' errors follow from that of the rank that gave up first, which has none where it failed an assertion.
  const int cause = world.aborted_by();
  if (cause >= 0 && errors[static_cast<std::size_t>(cause)])
    std::rethrow_exception(errors[static_cast<std::size_t>(cause)]);
}

void run_ranks(int ranks, const RankBody& body) {
  ThreadWorld world(ranks);
  run_ranks(world, ranks, body);
}

std::ostream& operator<<(std::ostream& out, const RankSet& set) {
  constexpr const char* names[] = {"self", "threads", "mpi"};
  return out << names[static_cast<int>(set.backend)] << set.size
             << (set.mpi_count_limit < INT_MAX ? "_short_counts" : "");
}

std::vector<RankSet> rank_sets() {
#ifdef PLASMID_MPI
  if (g_mpi_world) return {{Backend::mpi, g_mpi_world->communicator().size()}};
#endif
  return {{Backend::self, 1},    {Backend::threads, 1}, {Backend::threads, 2},
          {Backend::threads, 3}, {Backend::threads, 4}, {Backend::threads, 8}};
}

std::vector<RankSet> rank_sets_and_short_mpi_counts() {
  std::vector<RankSet> sets = rank_sets();
  if (g_mpi_world) sets.push_back({Backend::mpi, sets.front().size, 3});
  return sets;
}

void on_ranks(const RankSet& set, const RankBody& body) {
  switch (set.backend) {
    case Backend::self:
      return body(*make_self_communicator());
    case Backend::threads:
      return run_ranks(set.size, body);
    case Backend::mpi:
#ifdef PLASMID_MPI
      return run_on_mpi(body, set.mpi_count_limit);
#endif
      return;
  }
}

MpiWorld* mpi_world() { return g_mpi_world; }
void set_mpi_world(MpiWorld* world) { g_mpi_world = world; }

}  // namespace plasmid::test
