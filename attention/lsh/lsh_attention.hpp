#pragma once
#include <algorithm>

#include "attention/lsh/hash.hpp"
#include "attention/lsh/plan.hpp"
#include "parallel/comm/communicator.hpp"
#include "runtime/tensor/arena.hpp"

namespace plasmid {

struct LshTraffic {       // of this rank since it was made; what it sends to itself is not counted
  Index rows = 0;         // a token and head to the rank that attends over it, once a round
  Index halo_rows = 0;    // to the rank whose first chunk comes after it
  Index bytes = 0;        // of rows both ways, and their counts
  Index table_bytes = 0;  // of bucket counts that all ranks sum up
};

// LSH attention (lsh.hpp) over a line that is sharded over the ranks of `ring`: out, dqk and dv are those of one rank,
// to the bit. Ranks agree on the counts of buckets, which gives every token its place in the sorted order; per round,
// its row goes to the rank that attends over that place, and to the one whose chunk comes next where that is another;
// (out, lse), or gradients, come home. Memory does not grow with the number of rounds. Receiving is balanced to a
// chunk; sending follows the buckets. One rank neither copies nor sends. All ranks call alike with plans of the same
// batch. Borrows the communicator.
//
//   qk, v, dout [tokens, heads, d] f32, tokens may be strided; out, dqk, dv likewise; buckets [heads, rounds, tokens]
//   u16, each below shape.count(); lse [tokens, heads] f64, contiguous
class LshAttention {
 public:
  LshAttention(Communicator& ring, const LshOptions&, const LshBuckets& shape);

  const LshOptions& options() const { return options_; }
  const LshBuckets& shape() const { return shape_; }
  LshPlan plan(const TokenMap&) const;  // once a batch; the map must outlive it

  // Overwrites out and lse.
  void forward(const LshPlan&, ConstView qk, ConstView v, ConstView buckets, float scale, View out, View lse,
               Arena& scratch, Stream&);
  // Overwrites dqk and dv. out, lse, buckets: as forward had them.
  void backward(const LshPlan&, ConstView qk, ConstView v, ConstView buckets, float scale, ConstView out, ConstView lse,
                ConstView dout, View dqk, View dv, Arena& scratch, Stream&);

  // Upper bound of scratch bytes of the larger of the two, for one document of tokens x ranks. PreviousChunk::sorted
  // takes four chunks a head more for each further document.
  Index scratch_bytes(Index tokens, Index heads, Index d) const;
  // Sent by a rank in forward and backward where tokens are spread evenly: an estimate.
  double wire_bytes(Index tokens, Index heads, Index d) const;

  const LshTraffic& traffic() const { return traffic_; }
  double send_imbalance(Stream&) const;  // collective: the most rows that a rank sent, over the mean; 1 where none did

 private:
  friend class ShardedRound;
  struct Pass;
  Index heads_together(Index heads) const {
    return options_.heads_at_once > 0 ? std::min(heads, options_.heads_at_once) : heads;
  }
  void run_alone(const LshPlan&, Pass&, Arena&) const;
  void run_sharded(const LshPlan&, const Pass&, Arena&, Stream&);
  Index sharded_scratch_bytes(Index tokens, Index heads, Index d) const;

  Communicator& ring_;
  LshOptions options_;
  LshBuckets shape_;
  LshTraffic traffic_;
};

}  // namespace plasmid
