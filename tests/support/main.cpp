#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <iostream>
#include <memory>

#include "tests/support/ranks.hpp"
#include "tests/support/watchdog.hpp"
#ifdef PLASMID_MPI
#include "parallel/comm/mpi.hpp"
#endif

namespace plasmid::test {
namespace {

#if defined(__SANITIZE_THREAD__)
constexpr std::chrono::seconds kPatience{1500};
#else
constexpr std::chrono::seconds kPatience{300};  // per test, the other sanitizers and a loaded machine included
#endif

#ifdef PLASMID_MPI
// Under --mpi a test fails on all ranks together, so that they never part ways.
class FailTogether final : public testing::EmptyTestEventListener {
  void OnTestEnd(const testing::TestInfo& info) override {
    const bool failed = info.result()->Failed();
    if (mpi_world()->communicator().agree_max(failed) && !failed) ADD_FAILURE() << "failed on another rank";
  }
};

// Other ranks than the first say nothing but failures.
class Failures final : public testing::EmptyTestEventListener {
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (result.failed())
      std::cerr << "[rank " << mpi_world()->communicator().rank() << "] "
                << (result.file_name() ? result.file_name() : "") << ":" << result.line_number() << ": "
                << result.summary() << std::endl;
  }
};
#endif

bool take_flag(int& argc, char** argv, const char* flag) {
  char** const end = argv + argc;
  char** const found = std::find_if(argv + 1, end, [flag](const char* arg) { return std::strcmp(arg, flag) == 0; });
  if (found == end) return false;
  std::copy(found + 1, end + 1, found);  // with the null that ends argv
  --argc;
  return true;
}

// Listeners hear the end of a test in reverse order: the watchdog still watches while the ranks agree on failure.
int run(int argc, char** argv, [[maybe_unused]] int rank) {
  testing::InitGoogleTest(&argc, argv);  // after MPI: parameterised tests ask for the number of ranks
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  if (mpi_world() && GTEST_FLAG_GET(filter) == "*") GTEST_FLAG_SET(filter, "*/mpi*:Mpi*");  // the rest needs no peers
  testing::TestEventListeners& listeners = testing::UnitTest::GetInstance()->listeners();
  listeners.Append(new Watchdog(kPatience, rank));
#ifdef PLASMID_MPI
  if (mpi_world()) listeners.Append(new FailTogether);
  if (mpi_world() && rank > 0) {
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new Failures);
  }
#endif
  return RUN_ALL_TESTS();
}

}  // namespace
}  // namespace plasmid::test

int main(int argc, char** argv) {
  if (!plasmid::test::take_flag(argc, argv, "--mpi")) return plasmid::test::run(argc, argv, 0);
#ifdef PLASMID_MPI
  plasmid::MpiWorld mpi(&argc, &argv);
  plasmid::test::set_mpi_world(&mpi);
  return plasmid::test::run(argc, argv, mpi.communicator().rank());
#else
  std::cerr << "--mpi: built without MPI\n";
  return 64;
#endif
}
