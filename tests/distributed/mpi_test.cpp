#ifdef PLASMID_MPI
#include "parallel/comm/mpi.hpp"

#include <gtest/gtest.h>

#include "tests/support/expect_error.hpp"

namespace plasmid {
namespace {

TEST(Mpi, TasksOfSlurmThatMpiDoesNotSeeAreRefusedWithTheFix) {
  expect_error(ErrorCode::config, {"SLURM_NTASKS is 4", "one rank", "srun --mpi=pmix"},
               [] { check_slurm_launch(1, "4"); });
  EXPECT_NO_THROW(check_slurm_launch(1, nullptr));
  EXPECT_NO_THROW(check_slurm_launch(1, "1"));
  EXPECT_NO_THROW(check_slurm_launch(4, "4"));
  EXPECT_NO_THROW(check_slurm_launch(1, "not a number"));
}

}  // namespace
}  // namespace plasmid
#endif
