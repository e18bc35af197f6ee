#pragma once
#include <string>

#include "runtime/data/corpus.hpp"

namespace plasmid {

// XXH3-128 of what a corpus says: its length, and tokens, the labels that count and the records' begins of all of it,
// or of 1024 stretches of 4096 tokens, evenly spread with both ends, where it is longer than 2^24 tokens. So it costs
// seconds at most, and how the files are packed or cut into lines makes no difference. Of a longer corpus it finds
// another length, another file or another order, and a few changed letters only where they fall into a stretch.
std::string digest_of(Corpus&);

}  // namespace plasmid
