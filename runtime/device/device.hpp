#pragma once
#include <cstdint>

namespace plasmid {

struct Device {
  enum class Kind : std::uint8_t { host, cuda };
  Kind kind = Kind::host;
  int ordinal = 0;
  constexpr bool operator==(const Device&) const = default;
};

}  // namespace plasmid
