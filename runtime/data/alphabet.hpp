#pragma once
#include <array>
#include <cstdint>

#include "runtime/data/corpus.hpp"

namespace plasmid {

// Which bytes may stand in a sequence, and the token of each.
struct Alphabet {
  static constexpr std::int16_t kNone = -1;
  std::array<std::int16_t, 256> token{};   // kNone: no letter of a sequence
  std::array<std::uint8_t, 256> counts{};  // 0: left out of the loss as a label

  bool has(char letter) const { return token[static_cast<unsigned char>(letter)] != kNone; }
};

// nucleotide  A C G T N = 0 .. 4; U reads as T, the IUPAC codes for several bases and X (a masked base) as N; lower
//             case as upper case, masked from the loss where LowerCase says so. Any other letter is refused.
// byte        letters of either case, as they are, and the '*' and '-' of protein and aligned sequences.
Alphabet make_alphabet(Tokenizer, LowerCase);

}  // namespace plasmid
