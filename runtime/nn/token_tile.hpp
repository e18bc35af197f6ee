#pragma once
#include "runtime/nn/module.hpp"

namespace plasmid {

// A context for the tokens at local places `rows` alone, for what treats every token alone. Borrows all of the whole
// one; `context.gradients` may be cleared for all tiles but one, since a use of a parameter is announced once.
struct TokenTile {
  TokenTile(const Context& c, Range rows)
      : part(c.tokens, rows), context{c.compute, c.saved,   c.scratch,   c.weights, c.rng,
                                      part.map,  c.sources, c.gradients, c.probe,   c.training} {}
  TokenPart part;
  Context context;
};

// body(context, rows) for tiles of `tile` tokens in ascending order; once at least: a rank without tokens announces the
// same parameters in the same order as its peers.
template <class Body>
void for_each_tile(const Context& whole, Index tokens, Index tile, Body&& body) {
  Index begin = 0;
  do {
    const Range rows{begin, std::min(tokens, begin + tile)};
    TokenTile here(whole, rows);
    body(here.context, rows);
    begin = rows.end;
  } while (begin < tokens);
}

}  // namespace plasmid
