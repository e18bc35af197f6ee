#include "attention/ring/relay.hpp"

#include <algorithm>
#include <utility>

#include "parallel/cp/partition.hpp"

namespace plasmid::detail {
namespace {

enum Channel { kKeysAndValues, kGradients, kGradientsHome };

}  // namespace

View chunk_view(const Buffer& buffer, Index tokens, Index kv_heads, Index d) {
  const View whole = buffer.view();
  return View(whole.data, {{2, tokens, kv_heads, d}, whole.dtype}, whole.device);
}

Index shard_tokens(const TokenMap& map, int shard) { return token_count(map.shards[static_cast<std::size_t>(shard)]); }

Index largest_shard(const TokenMap& map) {
  Index largest = 0;
  for (const auto& shard : map.shards) largest = std::max(largest, token_count(shard));
  return largest;
}

KeyValueRelay::KeyValueRelay(Communicator& ring, const RingPlan& plan, ConstView k, ConstView v, Arena& scratch,
                             Stream& stream)
    : ring_(ring), plan_(plan), k_(k), v_(v), scratch_(scratch), stream_(stream) {}

View KeyValueRelay::buffer(std::size_t hop) {
  Buffer& buffer = buffers_[hop % 2];
  if (!buffer)
    buffer = scratch_.take({{2, largest_shard(*plan_.map), k_.dim(1), k_.dim(2)}, k_.dtype}, "ring.keys_values");
  return chunk_view(buffer, shard_tokens(*plan_.map, plan_.hops[hop].source), k_.dim(1), k_.dim(2));
}

// A derived type would spare the packing, but MPI packs as well, in small parts: over shared memory it took twice the
// time of this copy and the transfer together, over TCP a third more.
KeysAndValues KeyValueRelay::outgoing(std::size_t hop) {
  if (hop == 0 && k_.contiguous() && v_.contiguous()) return {k_, v_};
  const View chunk = buffer(hop);
  if (hop == 0) {
    ops::copy(k_, half(chunk, 0), stream_);
    ops::copy(v_, half(chunk, 1), stream_);
  }
  return {half(chunk, 0), half(chunk, 1)};
}

void KeyValueRelay::post(std::size_t hop) {
  if (hop >= plan_.hops.size()) return;
  const Hop& now = plan_.hops[hop];
  if (!now.send && !now.receive) return;
  std::array<Transfer, 2> transfers;
  for (Transfer& transfer : transfers) transfer.channel = kKeysAndValues;
  if (now.send) {
    const auto [k, v] = outgoing(hop);
    transfers[0].send = k, transfers[1].send = v;
    transfers[0].to = transfers[1].to = (ring_.rank() + 1) % ring_.size();
  }
  if (now.receive) {
    const View chunk = buffer(hop + 1);
    transfers[0].recv = half(chunk, 0), transfers[1].recv = half(chunk, 1);
    transfers[0].from = transfers[1].from = (ring_.rank() + ring_.size() - 1) % ring_.size();
  }
  in_flight_ = ring_.exchange(transfers, stream_);
}

void KeyValueRelay::release() {
  for (Buffer& buffer : buffers_) buffer.reset();
}

KeysAndValues KeyValueRelay::chunk(std::size_t hop) const {
  if (hop == 0) return {k_, v_};
  const Index tokens = shard_tokens(*plan_.map, plan_.hops[hop].source);
  const View chunk = chunk_view(buffers_[hop % 2], tokens, k_.dim(1), k_.dim(2));
  return {half(chunk, 0), half(chunk, 1)};
}

GradientRelay::GradientRelay(Communicator& ring, const RingPlan& plan, View dk, View dv, Arena& scratch, Stream& stream)
    : ring_(ring), plan_(plan), dk_(dk), dv_(dv), scratch_(scratch), stream_(stream) {
  ops::fill(dk, 0, stream);
  ops::fill(dv, 0, stream);
}

Buffer GradientRelay::take() {
  return scratch_.take({{2, largest_shard(*plan_.map), dk_.dim(1), dk_.dim(2)}}, "ring.gradients");
}

std::array<View, 2> GradientRelay::target(std::size_t hop) {
  if (hop == 0) return {dk_, dv_};
  at_work_ = take();
  const View sums = chunk_view(at_work_, shard_tokens(*plan_.map, plan_.hops[hop].source), dk_.dim(1), dk_.dim(2));
  ops::fill(sums, 0, stream_);
  return {half(sums, 0), half(sums, 1)};
}

void GradientRelay::receive_home() {
  if (!homing_) return;
  homing_.wait(stream_);
  const View sums = chunk_view(home_, dk_.dim(0), dk_.dim(1), dk_.dim(2));
  ops::add(dk_, half(sums, 0), dk_, stream_);
  ops::add(dv_, half(sums, 1), dv_, stream_);
  home_.reset();
}

void GradientRelay::pass_on(std::size_t hop) {
  const Hop& now = plan_.hops[hop];
  passing_.wait(stream_);
  leaving_.reset();
  receive_home();
  const auto view_at = [&](const Buffer& buffer, int source) {
    return chunk_view(buffer, shard_tokens(*plan_.map, source), dk_.dim(1), dk_.dim(2));
  };
  if (now.add_gradient && at_work_) {
    const View sums = view_at(at_work_, now.source);
    ops::add(sums, view_at(incoming_, now.source), sums, stream_);
    incoming_.reset();
  } else if (now.add_gradient) {  // no work here: the sums pass through
    at_work_ = std::move(incoming_);
  }

  std::array<Transfer, 2> transfers;
  std::size_t count = 0;
  const int home_channel = now.gradient_to == now.source ? kGradientsHome : kGradients;
  if (now.gradient_to >= 0) {
    leaving_ = std::move(at_work_);
    transfers[count++] = {view_at(leaving_, now.source), now.gradient_to, {}, -1, home_channel};
  }
  const Hop* next = hop + 1 < plan_.hops.size() ? &plan_.hops[hop + 1] : nullptr;
  if (next && next->add_gradient) {
    incoming_ = take();
    const int before = (ring_.rank() + ring_.size() - 1) % ring_.size();
    transfers[count++] = {{}, -1, view_at(incoming_, next->source), before, kGradients};
  }
  if (count > 0) passing_ = ring_.exchange({transfers.data(), count}, stream_);
  if (now.gradient_home_from < 0) return;
  home_ = take();
  const Transfer home{{}, -1, view_at(home_, ring_.rank()), now.gradient_home_from, kGradientsHome};
  homing_ = ring_.exchange({&home, 1}, stream_);
  // Where the next hop needs the third buffer (documents of very different lengths), the sums are awaited at once.
  if (leaving_ && incoming_ && next->work) receive_home();
}

void GradientRelay::finish() {
  passing_.wait(stream_);
  leaving_.reset();
  receive_home();
}

}  // namespace plasmid::detail
