#ifdef PLASMID_MPI
#include "parallel/comm/mpi.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "tests/support/expect_error.hpp"
#include "tests/support/temporary_folder.hpp"

namespace plasmid {
namespace {

using Variables = std::map<std::string, std::string>;

void launch(int mpi_ranks, const Variables& set) {
  check_launch(mpi_ranks, [&](const char* name) {
    const auto found = set.find(name);
    return found == set.end() ? nullptr : found->second.c_str();
  });
}

TEST(Mpi, TasksOfAStepThatMpiDoesNotSeeAreRefusedWithTheFix) {
  for (const Variables& set :
       {Variables{{"SLURM_STEP_ID", "0"}, {"SLURM_NTASKS", "4"}, {"SLURM_STEP_NUM_TASKS", "4"}, {"SLURM_PROCID", "0"}},
        Variables{{"SLURM_STEP_ID", "2"}, {"SLURM_NTASKS", "4"}}}) {
    expect_error(ErrorCode::config, {"TASKS is 4", "one rank", "srun --mpi=pmix"}, [&] { launch(1, set); });
    EXPECT_NO_THROW(launch(4, set));
  }
}

TEST(Mpi, OneTaskInALargerAllocationRuns) {
  EXPECT_NO_THROW(launch(1, {}));
  // A batch script, itself task 0 of the allocation.
  EXPECT_NO_THROW(launch(1, {{"SLURM_NTASKS", "4"}, {"SLURM_PROCID", "0"}, {"SLURM_LOCALID", "0"}}));
  EXPECT_NO_THROW(launch(1, {{"SLURM_STEP_ID", "0"}, {"SLURM_NTASKS", "1"}, {"SLURM_STEP_NUM_TASKS", "1"}}));
  // mpirun -n 1, whose daemons are a step of two tasks.
  EXPECT_NO_THROW(launch(1, {{"OMPI_COMM_WORLD_SIZE", "1"}, {"SLURM_STEP_ID", "0"}, {"SLURM_STEP_NUM_TASKS", "2"}}));
  EXPECT_NO_THROW(launch(1, {{"SLURM_STEP_ID", "0"}, {"SLURM_NTASKS", "not a number"}}));
}

TEST(Mpi, ProcessesOfAnotherLibrarysLauncherAreRefused) {
  expect_error(ErrorCode::config, {"PMI_SIZE is 2", "one rank", "mpirun of the MPI library"}, [] {
    launch(1, {{"PMI_SIZE", "2"}});
  });
  expect_error(ErrorCode::config, {"OMPI_COMM_WORLD_SIZE is 3"}, [] { launch(1, {{"OMPI_COMM_WORLD_SIZE", "3"}}); });
}

std::vector<std::string> settings(const Variables& set) {
  std::vector<std::string> lines;
  for (const Setting& setting : transport_settings([&](const char* name) {
         const auto found = set.find(name);
         return found == set.end() ? nullptr : found->second.c_str();
       }))
    lines.push_back(setting.variable + "=" + setting.value);
  return lines;
}

TEST(Mpi, LongMessagesOverTcpGoInFragmentsUnlessTheUserSaysOtherwise) {
  const std::vector<std::string> fragments{"OMPI_MCA_btl_tcp_flags=send,inplace,need-ack,need-csum"}, none;
  const TemporaryFolder home;
  EXPECT_EQ(settings({}), fragments);
  EXPECT_EQ(settings({{"HOME", home.path().string()}}), fragments);
  EXPECT_EQ(settings({{"OMPI_MCA_btl_tcp_flags", "send,put"}}), none);
  std::filesystem::create_directory(home.path() / ".openmpi");
  std::ofstream file(home.path() / ".openmpi" / "mca-params.conf");
  file << "# btl_tcp_flags is not set here\nbtl_tcp_if_include = eth0\n" << std::flush;
  EXPECT_EQ(settings({{"HOME", home.path().string()}}), fragments);
  file << "  btl_tcp_flags=57\n" << std::flush;
  EXPECT_EQ(settings({{"HOME", home.path().string()}}), none);
}

}  // namespace
}  // namespace plasmid
#endif
