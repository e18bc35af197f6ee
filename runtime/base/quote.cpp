#include "runtime/base/quote.hpp"

#include <nlohmann/json.hpp>

namespace plasmid {

std::string quote(std::string_view text) {
  constexpr std::size_t kLongest = 120;
  const std::string cut = std::string(text.substr(0, kLongest)) + (text.size() > kLongest ? "..." : "");
  return nlohmann::json(cut).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
}

}  // namespace plasmid
