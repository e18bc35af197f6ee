#include "launcher/bootstrap/team.hpp"

#include <omp.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bitset>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <set>
#include <vector>

#include "runtime/base/error.hpp"
#include "runtime/base/philox.hpp"

namespace plasmid {
namespace {

constexpr std::size_t kMaskWords = CPU_SETSIZE / 64;

struct Seat {  // where a rank runs: its host, and the processors it may use
  std::int64_t host = 0;
  std::array<std::int64_t, kMaskWords> processors{};
};
static_assert(sizeof(Seat) == (1 + kMaskWords) * sizeof(std::int64_t));

Seat seat_of_this_process() {
  Seat seat;
  char name[256] = "";
  gethostname(name, sizeof name - 1);
  seat.host = static_cast<std::int64_t>(name_key(name));
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof mask, &mask) != 0) CPU_SET(0, &mask);
  static_assert(sizeof mask == sizeof seat.processors);
  std::memcpy(seat.processors.data(), &mask, sizeof mask);
  return seat;
}

std::vector<Seat> seats_of_all(Communicator& ranks) {
  const Seat mine = seat_of_this_process();
  std::vector<Seat> all(static_cast<std::size_t>(ranks.size()));
  Stream stream;
  ranks
      .all_gather(view_of(std::span(&mine.host, sizeof mine / sizeof mine.host)),
                  view_of(std::span(&all.front().host, all.size() * sizeof mine / sizeof mine.host)), stream)
      .wait(stream);
  return all;
}

bool share_a_processor(const Seat& a, const Seat& b) {
  if (a.host != b.host) return false;
  for (std::size_t i = 0; i < kMaskWords; ++i)
    if (a.processors[i] & b.processors[i]) return true;
  return false;
}

int processors_of(const Seat& seat) {
  int count = 0;
  for (const std::int64_t word : seat.processors)
    count += static_cast<int>(std::bitset<64>(static_cast<std::uint64_t>(word)).count());
  return count;
}

int threads_for(const std::vector<Seat>& seats, int rank) {
  if (const char* wanted = std::getenv("OMP_NUM_THREADS"); wanted && *wanted) {
    int threads = 0;
    const char* end = wanted + std::strlen(wanted);
    const auto parsed = std::from_chars(wanted, end, threads);  // a list sets the outer level first
    if (parsed.ec != std::errc{} || threads < 1 || (parsed.ptr != end && *parsed.ptr != ','))
      throw Error(ErrorCode::config, std::string("OMP_NUM_THREADS: \"") + wanted + "\" is not a number of threads");
    return threads;
  }
  const Seat& mine = seats[static_cast<std::size_t>(rank)];
  const auto sharing = std::ranges::count_if(seats, [&](const Seat& seat) { return share_a_processor(mine, seat); });
  return std::max(1, processors_of(mine) / std::max(1, static_cast<int>(sharing)));
}

Simd widest_of_all(Communicator& ranks) {
  constexpr auto top = static_cast<std::uint64_t>(Simd::avx512);
  return static_cast<Simd>(top - ranks.agree_max(top - static_cast<std::uint64_t>(widest_simd())));
}

}  // namespace

Team form_team(Communicator& ranks) {
  const std::vector<Seat> seats = seats_of_all(ranks);
  const Seat& mine = seats[static_cast<std::size_t>(ranks.rank())];
  std::set<std::int64_t> hosts;
  for (const Seat& seat : seats) hosts.insert(seat.host);

  Team team;
  team.hosts = static_cast<int>(hosts.size());
  team.ranks_here = static_cast<int>(std::ranges::count(seats, mine.host, &Seat::host));
  team.simd = widest_of_all(ranks);
  limit_simd(team.simd);
  team.threads = threads_for(seats, ranks.rank());
  omp_set_num_threads(team.threads);
  return team;
}

Index machine_bytes() {
  Index bytes = ::sysconf(_SC_PHYS_PAGES) * ::sysconf(_SC_PAGESIZE), limit = 0;
  if (std::ifstream("/sys/fs/cgroup/memory.max") >> limit) bytes = std::min(bytes, limit);
  return bytes;
}

}  // namespace plasmid
