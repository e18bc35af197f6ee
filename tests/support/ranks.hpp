#pragma once
#include <climits>
#include <functional>
#include <iosfwd>
#include <vector>

#include "parallel/comm/communicator.hpp"
#include "parallel/comm/threads.hpp"

namespace plasmid {
class MpiWorld;
}

namespace plasmid::test {

using RankBody = std::function<void(Communicator&)>;

// Runs body on `ranks` threads, each with its rank's communicator, and joins them. The first exception is rethrown; a
// rank that throws or fails a test assertion aborts its peers, whose own errors then are not reported.
void run_ranks(int ranks, const RankBody& body);
void run_ranks(ThreadWorld&, int ranks, const RankBody& body);

enum class Backend { self, threads, mpi };
struct RankSet {
  Backend backend = Backend::threads;
  int size = 1;
  Index mpi_count_limit = INT_MAX;  // lower: short views take the path of very long ones
};
std::ostream& operator<<(std::ostream&, const RankSet&);  // names the instance of a parameterised test

// What this run of the program has: itself and 1, 2, 3, 4, 8 threads; under --mpi the ranks of the job.
std::vector<RankSet> rank_sets();
std::vector<RankSet> rank_sets_and_short_mpi_counts();
void on_ranks(const RankSet&, const RankBody& body);

MpiWorld* mpi_world();  // null without --mpi
void set_mpi_world(MpiWorld*);

}  // namespace plasmid::test

// One instance of each test of the suite per set of ranks, e.g. "threads3".
#define PLASMID_INSTANTIATE_ON_RANKS(suite, sets)            \
  INSTANTIATE_TEST_SUITE_P(, suite, testing::ValuesIn(sets), \
                           [](const auto& info) { return testing::PrintToString(info.param); })
