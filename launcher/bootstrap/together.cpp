#include "launcher/bootstrap/together.hpp"

#include <new>

#include "runtime/base/error.hpp"

namespace plasmid {

std::string one_line(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < ' ' || c == 127) c = ' ';
  return text;
}

Refusal describe(const std::exception& failure) {
  if (const auto* error = dynamic_cast<const Error*>(&failure)) return {error->exit_status(), one_line(error->what())};
  if (dynamic_cast<const std::bad_alloc*>(&failure))
    return {static_cast<int>(ErrorCode::memory), "the machine has no more memory"};
  return {static_cast<int>(ErrorCode::software), one_line(failure.what())};
}

void together(Communicator& ranks, const std::function<void()>& step) {
  Refusal mine;
  try {
    step();
  } catch (const std::exception& failure) {
    mine = describe(failure);
  }
  // The largest word is the lowest failing rank's: its distance from the last rank above its status.
  const auto rank = static_cast<std::uint64_t>(ranks.rank()), size = static_cast<std::uint64_t>(ranks.size());
  const std::uint64_t word = mine.exit_status ? (size - rank) << 8 | static_cast<std::uint64_t>(mine.exit_status) : 0;
  const std::uint64_t worst = ranks.agree_max(word);
  if (worst == 0) return;
  throw Refusal{static_cast<int>(worst & 0xff), worst == word ? mine.line : ""};
}

}  // namespace plasmid
