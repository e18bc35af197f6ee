#include "parallel/checkpoint/agreement.hpp"

#include <algorithm>
#include <array>
#include <exception>

namespace plasmid {
namespace {

using Line = std::array<std::uint8_t, 1024>;  // the longest message that travels, zero at the end

std::string broadcast_line(Communicator& ranks, int root, const std::string& text) {
  Line line{};
  std::copy_n(text.begin(), std::min(text.size(), line.size() - 1), line.begin());
  Stream stream;
  ranks.broadcast(view_of(std::span<std::uint8_t>(line)), root, stream).wait(stream);
  return {line.begin(), std::find(line.begin(), line.end() - 1, 0)};
}

}  // namespace

std::string run_agreed(Communicator& ranks, const std::function<void()>& work) {
  std::string problem;
  try {
    work();
  } catch (const std::exception& failure) {
    problem = (ranks.rank() > 0 ? "rank " + std::to_string(ranks.rank()) + ": " : "") + failure.what();
  }
  const auto distance = static_cast<std::uint64_t>(ranks.size() - ranks.rank());  // larger for a lower rank
  const std::uint64_t worst = ranks.agree_max(problem.empty() ? 0 : distance);
  return worst == 0 ? "" : broadcast_line(ranks, ranks.size() - static_cast<int>(worst), problem);
}

}  // namespace plasmid
