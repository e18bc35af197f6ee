#pragma once
#include "attention/lsh/lsh_attention.hpp"

namespace plasmid::detail {

// Where this holder's tokens lie in the sorted order of the whole line. Documents that are here whole are sorted here;
// of the others, all ranks sum up how many tokens of each bucket each holder has, so that a token's place follows.
class LshPlaces {
 public:
  LshPlaces(const LshPlan&, Communicator&, Index bucket_count, Index heads, Arena& scratch);

  // places [heads, tokens] of one round. buckets [heads, head_step]. Collective. Returns the bytes summed up.
  Index find(const std::uint16_t* buckets, Index head_step, Index heads, std::int32_t* places, Stream&);

  static Index scratch_bytes(Index segments, Index bucket_count, Index heads);

 private:
  void count(const std::uint16_t* buckets, Index head_step, Index heads);
  void sort(const LshPiece&, const std::uint16_t* buckets, std::int32_t* places, Index thread);
  void follow(const LshPiece&, Index head, Index heads, const std::uint16_t* buckets, std::int32_t* places,
              Index thread);

  const LshPlan& plan_;
  Communicator& ring_;
  Index bucket_count_;
  Buffer table_;   // [segments, heads, buckets]
  Buffer counts_;  // [threads, buckets]
  Buffer order_;   // [threads, buckets]: of documents too short to count
};

}  // namespace plasmid::detail
