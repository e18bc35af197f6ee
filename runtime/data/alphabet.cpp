#include "runtime/data/alphabet.hpp"

#include <string_view>

namespace plasmid {
namespace {

constexpr char lower(char letter) { return static_cast<char>(letter - 'A' + 'a'); }

void add(Alphabet& alphabet, char letter, int token, bool counts) {
  const auto place = static_cast<unsigned char>(letter);
  alphabet.token[place] = static_cast<std::int16_t>(token);
  alphabet.counts[place] = counts ? 1 : 0;
}

}  // namespace

Alphabet make_alphabet(Tokenizer tokenizer, LowerCase lower_case) {
  Alphabet alphabet;
  alphabet.token.fill(Alphabet::kNone);
  if (tokenizer == Tokenizer::byte) {
    for (char letter = 'A'; letter <= 'Z'; ++letter) {
      add(alphabet, letter, letter, true);
      add(alphabet, lower(letter), lower(letter), true);
    }
    for (const char letter : {'*', '-'}) add(alphabet, letter, letter, true);
    return alphabet;
  }
  constexpr std::string_view several = "NRYSWKMBDHVX";
  const auto base = [&](char letter, int token) {
    add(alphabet, letter, token, true);
    add(alphabet, lower(letter), token, lower_case == LowerCase::fold);
  };
  for (const char letter : several) base(letter, 4);
  base('A', 0), base('C', 1), base('G', 2), base('T', 3), base('U', 3);
  return alphabet;
}

}  // namespace plasmid
