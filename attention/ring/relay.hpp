#pragma once
#include <array>

#include "attention/ring/ring.hpp"
#include "runtime/ops/elementwise.hpp"

// What travels in a ring: key/value chunks forward, and with them, one hop behind, their partial gradients. Each relay
// holds a fixed number of buffers whatever the ring's size.
namespace plasmid::detail {

struct KeysAndValues {
  ConstView k, v;  // [keys, kv_heads, d]
};

// The two halves of one contiguous chunk buffer [2, tokens, kv_heads, d].
View chunk_view(const Buffer&, Index tokens, Index kv_heads, Index d);
template <class AnyView>
AnyView half(const AnyView& chunk, Index which) {
  AnyView part = chunk.slice(0, which, which + 1);
  return AnyView(part.data, {{chunk.dim(1), chunk.dim(2), chunk.dim(3)}, chunk.dtype}, chunk.device);
}

Index shard_tokens(const TokenMap&, int shard);
Index largest_shard(const TokenMap&);

// Two buffers: the chunk at work, which is sent on meanwhile, and the one coming in, where it stays. This rank's own
// keys and values leave from where they are if they are contiguous; parts of a projection are packed once.
class KeyValueRelay {
 public:
  KeyValueRelay(Communicator&, const RingPlan&, ConstView k, ConstView v, Arena& scratch, Stream&);

  void post(std::size_t hop);                  // the hop's transfers start; none past the last hop
  KeysAndValues chunk(std::size_t hop) const;  // valid from the end of the hop before
  void wait() { in_flight_.wait(stream_); }
  void release();  // the buffers, once the last hop is done

 private:
  View buffer(std::size_t hop);
  KeysAndValues outgoing(std::size_t hop);

  Communicator& ring_;
  const RingPlan& plan_;
  ConstView k_, v_;
  Arena& scratch_;
  Stream& stream_;
  std::array<Buffer, 2> buffers_;
  Pending in_flight_;  // dies before the buffers
};

// Three buffers: the sums of the hop at work, those coming in for the same source from the ranks before, and those of
// the hop before, on their way. This rank's own share stays here; what the others add to it comes home once.
class GradientRelay {
 public:
  GradientRelay(Communicator&, const RingPlan&, View dk, View dv, Arena& scratch, Stream&);

  // dk, dv that the kernel adds this hop's share to: zeros, but for the caller's own at hop 0.
  std::array<View, 2> target(std::size_t hop);
  // After the computation of a hop: completes the transfers of the hop before, adds what came, sends the sums on.
  void pass_on(std::size_t hop);
  void finish();

 private:
  Buffer take();
  void receive_home();

  Communicator& ring_;
  const RingPlan& plan_;
  View dk_, dv_;
  Arena& scratch_;
  Stream& stream_;
  Buffer at_work_, incoming_, leaving_, home_;
  Pending passing_, homing_;  // die before the buffers
};

}  // namespace plasmid::detail
