#pragma once
#include <vector>

#include "attention/lsh/lsh.hpp"
#include "runtime/nn/token_map.hpp"

namespace plasmid {

// A run of this holder's tokens that are of one document.
struct LshPiece {
  Range local;     // local indices
  Index line = 0;  // of the first token, in the line
  Index document = 0;
  Index segment = -1;  // its number among the segments of documents that are cut; -1: all of the document is here
};

// What LSH attention needs to know of one batch, for every layer, round and head, forward and backward. Borrows the
// map. Pure but for the pieces: equal on all ranks.
struct LshPlan {
  const TokenMap* map = nullptr;
  int rank = 0, ranks = 1;
  // Where documents begin, [documents + 1]: those of the map, the padding at a document's end as one of its own, so
  // that nothing sees it.
  std::vector<Index> documents;
  std::vector<LshChunk> chunks;
  std::vector<Index> first_chunk;        // of each document
  std::vector<Index> rank_chunks;        // [ranks + 1]: rank r attends over chunks [r, r + 1), of about equal tokens
  std::vector<std::int32_t> chunk_rank;  // of each chunk: who attends over it
  std::vector<Index> segment_begin;      // [documents + 1]: the segments of documents that are cut, in line order
  std::vector<LshPiece> pieces;

  Index document_begin(Index document) const { return documents[static_cast<std::size_t>(document)]; }
  Index document_size(Index document) const { return document_begin(document + 1) - document_begin(document); }
  const LshChunk& chunk(Index c) const { return chunks[static_cast<std::size_t>(c)]; }
  Range own_chunks(int r) const {
    return {rank_chunks[static_cast<std::size_t>(r)], rank_chunks[static_cast<std::size_t>(r) + 1]};
  }
  Range own_places(int r) const {  // of each head and round
    const Range own = own_chunks(r);
    return own.size() == 0 ? Range{} : Range{chunk(own.begin).places.begin, chunk(own.end - 1).places.end};
  }
};

// Throws Error{config} for a line of 2^31 tokens and for padding that a document's tokens follow.
LshPlan plan_lsh(const TokenMap&, int rank, int ranks, Index chunk);

}  // namespace plasmid
