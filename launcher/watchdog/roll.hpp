#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "parallel/comm/activity.hpp"
#include "runtime/base/index.hpp"

namespace plasmid {

// What a rank tells of itself.
struct RankState {
  enum class Doubt : std::int32_t { none, computes, syncs, halted };  // what its thread does that shows no sign
  double idle = 0;   // seconds without a sign of progress (Progress), a tenth of those in doubt
  double quiet = 0;  // the same seconds, all of them
  Index step = 0;    // of training; 0 before the first
  std::uint64_t operations = 0;
  std::int32_t waits = 0, group = 0;  // whether it is in an operation, and the ranks of that or of the last one
  Doubt doubt = Doubt::none;
  std::array<char, 20> operation{};  // its name, cut to fit
};
RankState state_of(const Activity::Now&, double idle, Index step);  // not in doubt

// Who was heard, when and with what, and whether the job goes on. Times are seconds of one clock of the caller's.
class Roll {
 public:
  explicit Roll(std::vector<std::string> hosts);  // of each rank; none is heard yet

  void hear(int rank, const RankState&, double now);
  void leave(int rank);             // it said farewell: not missed
  void lose(int rank, double now);  // its connection was closed without a farewell
  bool present(int rank) const { return of(rank).standing == Standing::present; }
  const RankState& state(int rank) const { return of(rank).state; }
  double silence(int rank, double now) const { return now - of(rank).heard; }

  // One line that names ranks, hosts and operations, once a rank is lost.
  std::optional<std::string> lost(double now) const;

  // One line once no rank that was ever heard shows progress for `timeout` seconds, whose own word it is or that is
  // silent. Blamed are those unheard for `patience`; else those halted; else those outside operations; else the
  // furthest behind.
  std::optional<std::string> stuck(double now, double timeout, double patience) const;

  // The line of a rank that waits and has not heard another for as long.
  std::string missed(int rank, double now, double timeout) const;

  std::string name(int rank) const;                    // "rank 3 on host n2"
  std::string last_known(int rank, double now) const;  // "last heard 0.2 s ago in step 57, in all_reduce ..."

 private:
  enum class Standing { unheard, present, left, lost };
  struct Entry {
    std::string host;
    Standing standing = Standing::unheard;
    RankState state{};
    double heard = 0;
  };
  const Entry& of(int rank) const { return ranks_[static_cast<std::size_t>(rank)]; }
  Entry& of(int rank) { return ranks_[static_cast<std::size_t>(rank)]; }
  std::vector<int> blamed(double now, double patience) const;
  std::string waiter(const std::vector<int>& but) const;  // "; rank 0 on host n1 waits in ...", or nothing

  std::vector<Entry> ranks_;
};

std::string seconds_text(double);  // "2.9 s", "600 s"

}  // namespace plasmid
