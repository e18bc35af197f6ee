#pragma once
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "runtime/data/alphabet.hpp"
#include "runtime/data/bytes.hpp"

namespace plasmid {

// Texts, end to end. None is empty.
struct Documents {
  std::unique_ptr<Bytes> text;
  std::vector<Index> begins;  // ascending from 0
  std::vector<std::string> warnings;
};

// The strings that the objects of a JSON Lines file hold under `field`, one document a line, decoded once into a file
// of the folder `cache`. Blank lines are passed over; an empty string is left out and named in `warnings`. With
// `letters`, a document is a sequence: blanks and line ends in it are left out, all else must be a letter. Memory: the
// longest line, a few times. Throws Error{no_input}, Error{data} naming file, line and what is wrong there.
Documents json_documents(const InputFile&, const Cache& cache, const std::string& field, const Alphabet* letters);

}  // namespace plasmid
