#pragma once
#include <functional>
#include <vector>

#include "attention/kernel/kernel.hpp"
#include "attention/ring/ring.hpp"
#include "parallel/cp/partition.hpp"
#include "tests/support/passing_communicator.hpp"
#include "tests/support/token_line.hpp"

namespace plasmid::test {

// A kernel that does nothing but call back: what a ring does around its kernel, without the arithmetic.
class IdleKernel final : public AttentionKernel {
 public:
  using AtWork = std::function<void(const Attend&)>;
  explicit IdleKernel(AtWork at_work) : at_work_(std::move(at_work)) {}
  void forward(const Attend& call, View, View, Arena&) override { at_work_(call); }
  void backward(const Attend& call, ConstView, ConstView, ConstView, View, View, View, Arena&) override {
    at_work_(call);
  }
  Index scratch_bytes(Index, Index, Index, Index, Index) const override { return 0; }

 private:
  AtWork at_work_;
};

// Tensors of one rank without content, and the two passes over them. Keys and values lie inside rows of a projection,
// or contiguous.
class IdleShard {
 public:
  IdleShard(const TokenLine& line, int rank, Index heads, Index kv_heads, Index d, bool fused = true)
      : map(line.map(rank)),
        tokens_(token_count(map.owned())),
        heads_(heads),
        kv_heads_(kv_heads),
        d_(d),
        kv_step_(fused ? (heads + 2 * kv_heads) * d : kv_heads * d),
        words_(static_cast<std::size_t>(tokens_ * (heads + 2 * kv_heads) * d)) {}

  void forward(RingAttention& attention, const RingPlan& plan) {
    attention.forward(plan, wide(storage), narrow(storage), narrow(storage), 1, wide(), rows(), scratch, stream);
  }
  void backward(RingAttention& attention, const RingPlan& plan) {
    attention.backward(plan, wide(storage), narrow(storage), narrow(storage), wide(), rows(), wide(), 1, wide(),
                       narrow(), narrow(), scratch, stream);
  }

  TokenMap map;
  DType storage = DType::f32;  // of queries, keys and values
  Ledger ledger;
  Arena scratch{Arena::Kind::pool, ledger};
  Stream stream;

 private:
  View of(const TensorSpec& spec) { return View(reinterpret_cast<std::byte*>(words_.data()), spec); }
  View wide(DType dtype = DType::f32) { return of({{tokens_, heads_, d_}, dtype}); }
  View rows() { return of({{tokens_, heads_}}); }
  View narrow(DType dtype = DType::f32) {
    View view = of({{tokens_, kv_heads_, d_}, dtype});
    view.stride[0] = kv_step_;
    return view;
  }

  Index tokens_, heads_, kv_heads_, d_, kv_step_;
  std::vector<float> words_;
};

// Counts the bytes that this rank sends point to point, and its polls.
class CountingCommunicator final : public PassingCommunicator {
 public:
  using PassingCommunicator::PassingCommunicator;
  double sent_bytes = 0;
  int polls = 0;

  Pending exchange(std::span<const Transfer> transfers, Stream& after) override {
    for (const Transfer& transfer : transfers)
      if (transfer.to >= 0) sent_bytes += static_cast<double>(transfer.send.spec().bytes());
    return inner_.exchange(transfers, after);
  }
  void poll() noexcept override {
    ++polls;
    inner_.poll();
  }
};

}  // namespace plasmid::test
