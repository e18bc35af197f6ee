#include "launcher/bootstrap/world.hpp"

#include <cstdlib>

#ifdef PLASMID_MPI
#include "parallel/comm/mpi.hpp"
#else
#include "parallel/comm/self.hpp"
#endif

namespace plasmid {

#ifdef PLASMID_MPI
struct World::Impl {
  MpiWorld mpi;
  Communicator& ranks() { return mpi.communicator(); }
  Activity& activity() { return mpi.activity(); }
  std::string library() { return mpi.library(); }
  [[noreturn]] void abort(int exit_status) noexcept { mpi.abort(exit_status); }
};
World::World(int* argc, char*** argv) : impl_(new Impl{{argc, argv}}) {}
#else
struct World::Impl {
  std::unique_ptr<Communicator> self = make_self_communicator();
  Activity idle;
  Communicator& ranks() { return *self; }
  Activity& activity() { return idle; }
  std::string library() { return "none"; }
  [[noreturn]] void abort(int exit_status) noexcept { std::_Exit(exit_status); }
};
World::World(int*, char***) : impl_(new Impl) {}
#endif

World::~World() = default;
Communicator& World::ranks() { return impl_->ranks(); }
Activity& World::activity() { return impl_->activity(); }
std::string World::library() { return impl_->library(); }
void World::abort(int exit_status) noexcept { impl_->abort(exit_status); }

int launched_rank() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"})
    if (const char* rank = std::getenv(name)) return std::atoi(rank);
  return 0;
}

}  // namespace plasmid
