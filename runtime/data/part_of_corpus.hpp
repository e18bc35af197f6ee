#pragma once
#include <memory>

#include "runtime/data/corpus.hpp"

namespace plasmid {

// The tokens [part.begin, part.end) of a corpus as a corpus of their own, read in place. Records keep their borders;
// one that the part's begin cuts starts there, and no label crosses the part's end. Its warnings are those of the whole
// when it starts with the whole, else none. Parts of one corpus share it, so they are read by one thread at a time.
std::unique_ptr<Corpus> part_of(std::shared_ptr<Corpus>, Range part);

struct Split {
  Range training, held_out;
};
// The last round(fraction * tokens) tokens of a line are held out. Throws Error{config}, with the arithmetic, where
// either part has fewer than two tokens, since one predicts nothing.
Split split_line(Index tokens, double held_out_fraction);

// Whether any token can be a label: one that counts and does not begin a record. Reads up to the first.
bool has_label(Corpus&);

}  // namespace plasmid
