#pragma once
#include <cstdint>
#include <string>

namespace plasmid {

// Instruction sets, narrowest first. Ranks of one job agree on the widest that all have, so that they compute the same
// bits; call once per process before the first kernel runs.
enum class Simd : std::uint8_t { baseline = 0, sse4 = 1, avx2 = 2, avx512 = 3 };
Simd widest_simd();     // of this machine
void limit_simd(Simd);  // for Highway's and oneDNN's kernels alike; a second, wider call is ignored by oneDNN
Simd simd_in_use();
std::string name_of(Simd);

}  // namespace plasmid
