#pragma once
#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace plasmid {

// Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): a bijection of a 128-bit counter
// under a 64-bit key. Keyed by global coordinates, the numbers are the same for any layout, order and replay.
struct Philox {
  using Block = std::array<std::uint32_t, 4>;

  static constexpr Block draw(std::uint64_t key, std::uint64_t counter_high, std::uint64_t counter_low) {
    Block c = {static_cast<std::uint32_t>(counter_low), static_cast<std::uint32_t>(counter_low >> 32),
               static_cast<std::uint32_t>(counter_high), static_cast<std::uint32_t>(counter_high >> 32)};
    std::uint32_t k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
    for (int round = 0; round < 10; ++round) {
      const std::uint64_t p0 = std::uint64_t{0xD2511F53} * c[0], p1 = std::uint64_t{0xCD9E8D57} * c[2];
      c = {static_cast<std::uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<std::uint32_t>(p1),
           static_cast<std::uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<std::uint32_t>(p0)};
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    return c;
  }
};

constexpr double uniform_open(std::uint32_t bits) { return (bits + 0.5) * 0x1p-32; }  // in (0, 1)

// Two standard normals from one pair of draws (Box and Muller 1958).
inline std::array<double, 2> normal_pair(std::uint32_t a, std::uint32_t b) {
  const double radius = std::sqrt(-2 * std::log(uniform_open(a))), angle = 2 * std::numbers::pi * uniform_open(b);
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

// A stable 64-bit hash of a name (FNV-1a), to key random numbers by parameter name.
constexpr std::uint64_t name_key(const char* text) {
  std::uint64_t hash = 14695981039346656037ull;
  for (; *text; ++text) hash = (hash ^ static_cast<unsigned char>(*text)) * 1099511628211ull;
  return hash;
}

}  // namespace plasmid
