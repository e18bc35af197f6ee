#pragma once
#include <span>

#include "attention/kernel/kernel.hpp"
#include "attention/mask/mask.hpp"
#include "parallel/comm/communicator.hpp"
#include "runtime/nn/token_map.hpp"

namespace plasmid {

// One step of the ring on one rank: which holder's keys are worked on, and which transfers take place. Chunks move from
// rank to rank + 1; hop 0 works on the rank's own.
struct Hop {
  int source = 0;               // holder whose keys and values may be here in this hop: rank - hop
  bool work = false;            // the mask lets some query here see some key of it
  bool send = false;            // this hop's chunk goes on to rank + 1 while it is worked on
  bool receive = false;         // the next hop's chunk comes from rank - 1 meanwhile
  bool add_gradient = false;    // partial dK, dV of `source` came from rank - 1: add them after this hop's computation
  int gradient_to = -1;         // where the partial sums then go: rank + 1, or `source` itself when they are complete
  int gradient_home_from = -1;  // who sends this rank's own dK, dV home at the end of this hop
  int mask = -1;                // with work: which of RingPlan::masks this rank's queries have against these keys
};

// The schedule of rank `rank`: a pure function of what all ranks know alike, so that peers never disagree on a hop and
// hang. A chunk travels only as far as the last rank that needs it (windows, documents and padding prune the ring), its
// gradients with it and then home; the source's own share never travels. Trailing hops without work or transfers are
// left out: the length differs between ranks. (Liu, Zaharia, Abbeel 2023: ring attention.)
RecycledVector<Hop> ring_schedule(const TokenMap&, const Pattern&, int rank, int size);
// Those of all ranks, one after another, for the cost of one: what a ring is planned by.
std::vector<RecycledVector<Hop>> ring_schedules(const TokenMap&, const Pattern&, int size);

// What a ring needs to know of one batch, for every layer and for forward and backward alike. Borrows the map.
struct RingPlan {
  const TokenMap* map = nullptr;
  RecycledVector<Hop> hops;
  // Each mask once: 8 bytes a query, and a byte a key where some are padding. Most hops share one, since a shard's
  // parts see the parts of another whole or not at all, and windows and documents prune the others. Where every hop has
  // its own, a mask is 1 / (kv_heads d) of the keys and values that it is for.
  RecycledVector<MaskPlan> masks;

  const MaskPlan& mask(const Hop& hop) const { return masks[static_cast<std::size_t>(hop.mask)]; }
};

// Pure, as ring_schedule and plan_mask are.
RingPlan plan_ring(const TokenMap&, const Pattern&, int rank, int size);

// Exact attention over a sequence sharded over the ranks of `ring`, equal to that of one rank. Each rank holds O(its
// shard): out and dq are summed in f32 and lse in f64 for the whole turn, and the next key/value chunk is in flight
// while the present one is worked on. Rounding does not grow with the ring. Borrows the communicator and the kernel
// (one rank's: kernels keep state). A ring of one neither copies nor sends.
//
// q [tokens, heads, d], k, v [tokens, kv_heads, d], all f32 or all bf16, which is also what travels: tokens may be
// strided (parts of one projection), the inner dims are contiguous. out [tokens, heads, d], lse [tokens, heads], dout,
// dq, dk, dv as out, q, k, v: f32; dq, dk, dv may be strided likewise. All ranks call in the same order with plans of
// the same batch, whose map has ring.size() shards.
class RingAttention {
 public:
  RingAttention(Communicator& ring, AttentionKernel& kernel, const Pattern& pattern);

  // plan_ring for this rank. O(ranks^2) look-ups among the documents' borders, one look at each validity byte, O(tokens
  // here) for each hop's mask: made once a batch, not once a layer. The map must outlive it. Debug builds agree on it
  // over the ring.
  RingPlan plan(const TokenMap&);
  Index plans() const { return plans_; }  // made so far

  // Overwrites out and lse. `dropout` (AttentionDropout::mask) is of the weights, and equal on all ranks.
  void forward(const RingPlan&, ConstView q, ConstView k, ConstView v, float scale, View out, View lse, Arena& scratch,
               Stream&, const DropoutMask& dropout = {});
  // Overwrites dq, dk, dv. out, lse: as forward left them; dropout: as it had.
  void backward(const RingPlan&, ConstView q, ConstView k, ConstView v, ConstView out, ConstView lse, ConstView dout,
                float scale, View dq, View dk, View dv, Arena& scratch, Stream&, const DropoutMask& dropout = {});

  // Bounds for shards of at most `tokens` tokens, nothing pruned: peak scratch bytes of the larger of forward and
  // backward, and bytes this rank sends in one forward and one backward. `storage`: of q, k and v.
  Index scratch_bytes(Index tokens, Index heads, Index kv_heads, Index d, DType storage = DType::f32) const;
  double wire_bytes(Index tokens, Index kv_heads, Index d, DType storage = DType::f32) const;

 private:
  Communicator& ring_;
  AttentionKernel& kernel_;
  Pattern pattern_;
  Index plans_ = 0;
};

}  // namespace plasmid
