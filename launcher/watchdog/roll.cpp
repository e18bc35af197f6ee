#include "launcher/watchdog/roll.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

namespace plasmid {
namespace {

constexpr std::size_t kNamed = 4;  // ranks in one line

// "all_reduce of 3 ranks (its operation 812)"
std::string operation_of(const RankState& state) {
  const std::string name(state.operation.data(), ::strnlen(state.operation.data(), state.operation.size()));
  return name + " of " + std::to_string(state.group) + " ranks (its operation " + std::to_string(state.operations) +
         ")";
}

std::string place_of(const RankState& state) {
  const std::string step = state.step > 0 ? "in step " + std::to_string(state.step) + ", " : "";
  if (state.operations == 0) return step + "before its first operation";
  return step + (state.waits ? "in " : "outside of operations, after ") + operation_of(state);
}

std::string doubt_of(const RankState& state) {
  switch (state.doubt) {
    case RankState::Doubt::computes:
      return ", computing or in a loop";
    case RankState::Doubt::syncs:
      return ", waiting for a disk to sync";
    case RankState::Doubt::halted:
      return ", halted by a signal or a debugger";
    default:
      return "";
  }
}

}  // namespace

std::string seconds_text(double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, seconds < 10 ? "%.1f s" : "%.0f s", seconds);
  return text;
}

RankState state_of(const Activity::Now& now, double idle, Index step) {
  RankState state{
      .idle = idle, .quiet = idle, .step = step, .operations = now.number, .waits = now.waits, .group = now.group};
  if (now.operation)
    std::memcpy(state.operation.data(), now.operation, ::strnlen(now.operation, state.operation.size()));
  return state;
}

Roll::Roll(std::vector<std::string> hosts) {
  for (std::string& host : hosts) ranks_.push_back({.host = std::move(host)});
}

void Roll::hear(int rank, const RankState& state, double now) {
  Entry& entry = of(rank);
  entry.standing = Standing::present;
  entry.state = state;
  entry.heard = now;
}

void Roll::leave(int rank) { of(rank).standing = Standing::left; }

void Roll::lose(int rank, double now) {
  Entry& entry = of(rank);
  if (entry.standing == Standing::left) return;
  if (entry.standing == Standing::unheard) entry.heard = now;
  entry.standing = Standing::lost;
}

std::string Roll::name(int rank) const { return "rank " + std::to_string(rank) + " on host " + of(rank).host; }

std::string Roll::last_known(int rank, double now) const {
  return "last heard " + seconds_text(silence(rank, now)) + " ago " + place_of(of(rank).state);
}

std::optional<std::string> Roll::lost(double now) const {
  std::vector<int> gone;
  for (int rank = 0; rank < static_cast<int>(ranks_.size()); ++rank)
    if (of(rank).standing == Standing::lost) gone.push_back(rank);
  if (gone.empty()) return std::nullopt;
  std::string text =
      name(gone.front()) + " is gone (killed, crashed or out of memory), " + last_known(gone.front(), now);
  if (gone.size() > 1) text += ", and " + std::to_string(gone.size() - 1) + " more";
  return text + waiter(gone);
}

std::optional<std::string> Roll::stuck(double now, double timeout, double patience) const {
  bool anybody = false;
  for (const Entry& entry : ranks_) {
    if (entry.standing != Standing::present) continue;
    anybody = true;
    if (entry.state.idle + (now - entry.heard) < timeout) return std::nullopt;
  }
  if (!anybody) return std::nullopt;
  const std::vector<int> ranks = blamed(now, patience);
  std::string text = "no rank has made progress for " + seconds_text(timeout) + " (train.timeout_seconds): ";
  for (std::size_t i = 0; i < std::min(ranks.size(), kNamed); ++i) {
    const Entry& entry = of(ranks[i]);
    const double silent = now - entry.heard;
    text += (i > 0 ? ", " : "") + name(ranks[i]) + " " +
            (silent >= patience ? "is silent, " + last_known(ranks[i], now)
                                : "is " + place_of(entry.state) + doubt_of(entry.state) + ", for " +
                                      seconds_text(entry.state.quiet + silent));
  }
  if (ranks.size() > kNamed) text += " and " + std::to_string(ranks.size() - kNamed) + " more";
  return text + waiter(ranks);
}

std::string Roll::missed(int rank, double now, double timeout) const {
  return "a rank is silent for " + seconds_text(timeout) + " (train.timeout_seconds): " + name(rank) + ", " +
         last_known(rank, now) + waiter({rank});
}

std::vector<int> Roll::blamed(double now, double patience) const {
  std::vector<int> present, silent, halted, outside, behind;
  std::uint64_t least = UINT64_MAX;
  for (int rank = 0; rank < static_cast<int>(ranks_.size()); ++rank) {
    const Entry& entry = of(rank);
    if (entry.standing != Standing::present) continue;
    if (now - entry.heard >= patience) silent.push_back(rank);
    if (entry.state.doubt == RankState::Doubt::halted) halted.push_back(rank);
    if (!entry.state.waits) outside.push_back(rank);
    least = std::min(least, entry.state.operations);
    present.push_back(rank);
  }
  if (!silent.empty()) return silent;
  if (!halted.empty()) return halted;
  if (!outside.empty()) return outside;
  for (const int rank : present)
    if (of(rank).state.operations == least) behind.push_back(rank);
  return behind;
}

std::string Roll::waiter(const std::vector<int>& but) const {
  for (int rank = 0; rank < static_cast<int>(ranks_.size()); ++rank)
    if (of(rank).standing == Standing::present && of(rank).state.waits && !std::ranges::count(but, rank))
      return "; " + name(rank) + " waits in " + operation_of(of(rank).state);
  return "";
}

}  // namespace plasmid
