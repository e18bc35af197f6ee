#pragma once
#include <vector>

#include "runtime/base/index.hpp"
#include "runtime/data/corpus.hpp"

namespace plasmid {

struct MarkovOptions {
  int highest_order = 12;
  double pseudo_tokens = 4;             // m below
  Index memory_bytes = Index{1} << 29;  // of counts
  Index dense_from = Index{1} << 20;    // training tokens
};

struct MarkovScore {
  Index labels = 0;          // scored tokens of the held-out corpus
  std::vector<double> nats;  // per label, by order from 0; shorter than asked where the next order's counts do not fit
  int best() const;          // the order of the least
};

// How well fixed-order Markov models predict held-out tokens: the yardstick of what a network learned. Counts come from
// `training` alone. The scored tokens are exactly those that a network predicts: each that counts as a label, but for
// the first of a record. The order-k model gives the token s after its last k tokens, c,
//   P(s | c) = (n(c, s) + m / A) / (n(c) + m)
// with n the counts of the training corpus' labels, A the tokens in all, and m = 4 pseudo-tokens spread over them: one
// of each base, 1/64 of each byte. (On E. coli no m from 1 to 16 moves the best order's bits by 0.001; on
// English bytes 2 and 4 are best.) Contexts lie within one record; within the
// first k tokens of one the context is what there is, with the counts of that shorter order. Of nucleotides (vocabulary
// 5, A = 4) N is no part of a context, but ends one as a record's begin does; whether a token is N is predicted from
// whether the one before it is, by the same estimate with A = 2.
// Time O(orders x tokens). From a million tokens on, nucleotides are counted in dense tables by one pass over each
// corpus: 450 MB for order 12. Everything else is counted by hashed contexts of 64 bits, one order a pass; a collision
// among n contexts has a chance of n^2 / 2^65. Reads by range and holds counts only.
MarkovScore score_markov(Corpus& training, Corpus& held_out, const MarkovOptions& = {});

}  // namespace plasmid
