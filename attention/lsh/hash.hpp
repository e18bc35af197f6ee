#pragma once
#include <cstdint>

#include "runtime/base/index.hpp"
#include "runtime/device/stream.hpp"
#include "runtime/tensor/arena.hpp"
#include "runtime/tensor/view.hpp"

namespace plasmid {

// How many buckets a round has: one number, or the product of two, so that hashing N tokens into N / chunk buckets
// takes sqrt(N) columns of rotations, not N (Kitaev et al. 2020, footnote 3). Each factor is 1 or even.
struct LshBuckets {
  Index first = 2, second = 1;
  Index count() const { return first * second; }
  Index columns() const { return first / 2 + second / 2; }  // of a round's rotations
  bool operator==(const LshBuckets&) const = default;
};

// The power of two at or above length / chunk, at least 2 and at most kMaxLshBuckets: buckets hold a chunk's tokens or
// fewer. In two factors, the second of the same size or twice the first, where there are more than 64.
LshBuckets choose_lsh_buckets(Index length, Index chunk);
// Throws Error{config} naming `count` where it is odd, below 2 or above kMaxLshBuckets; splits it like the above where
// it is a power of two.
LshBuckets lsh_buckets_of(Index count);

// Fills rotations [heads, d, rounds * columns] f32 with standard normal numbers, those of (seed, layer, round, head):
// the same in every layout, order and replay. The columns of round 0 come first, in each those of the first factor.
void draw_lsh_rotations(std::uint64_t seed, std::uint64_t layer, Index rounds, const LshBuckets&, View rotations);

// buckets [heads, rounds, tokens] u16: with x = qk . rotations of a factor of n, the index of the largest of the n
// numbers [x, -x] (Andoni et al. 2015), the lower where two are equal; first * second.count + second for two factors.
// A row that is not finite lands in some bucket. qk [tokens, heads, d] f32, tokens may be strided. A token's buckets
// depend on its row alone, to the bit, not on how many rows stand beside it nor on the number of threads.
void lsh_hash(ConstView qk, ConstView rotations, Index rounds, const LshBuckets&, View buckets, Arena& scratch,
              Stream&);
Index lsh_hash_scratch_bytes(Index tokens, Index heads, Index rounds, const LshBuckets&);

}  // namespace plasmid
