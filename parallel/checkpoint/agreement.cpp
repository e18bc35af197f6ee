#include "parallel/checkpoint/agreement.hpp"

#include <algorithm>
#include <array>
#include <exception>
#include <filesystem>
#include <new>

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

std::optional<Error> error_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error;
  } catch (const std::bad_alloc&) {
    return Error(ErrorCode::memory, "the machine has no more memory");
  } catch (const std::filesystem::filesystem_error& failure) {
    return Error(ErrorCode::io, failure.what());
  } catch (const std::exception& failure) {
    return Error(ErrorCode::software, failure.what());
  }
  return std::nullopt;
}

}  // namespace

std::optional<Error> error_agreed(Communicator& ranks, const std::function<void()>& work) {
  const std::optional<Error> mine = error_of(work);
  // The code above the distance from the last rank, which is larger for a lower rank.
  const auto code = static_cast<std::uint64_t>(mine ? mine->exit_status() : 0);
  const auto rank = static_cast<std::uint64_t>(ranks.rank()), size = static_cast<std::uint64_t>(ranks.size());
  const std::uint64_t worst = ranks.agree_max(mine ? code << 32 | (size - rank) : 0);
  if (worst == 0) return std::nullopt;
  const std::string line = mine ? (rank > 0 ? "rank " + std::to_string(rank) + ": " : "") + mine->what() : "";
  return Error(static_cast<ErrorCode>(worst >> 32),
               broadcast_line(ranks, static_cast<int>(size - (worst & 0xffffffff)), line));
}

std::string run_agreed(Communicator& ranks, const std::function<void()>& work) {
  const std::optional<Error> error = error_agreed(ranks, work);
  return error ? error->what() : "";
}

}  // namespace plasmid
