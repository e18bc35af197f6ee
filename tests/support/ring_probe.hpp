#pragma once
#include <functional>

#include "attention/kernel/kernel.hpp"
#include "parallel/comm/communicator.hpp"

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

// Passes everything on and counts the bytes that this rank sends point to point, and its polls.
class CountingCommunicator final : public Communicator {
 public:
  explicit CountingCommunicator(Communicator& inner) : inner_(inner) {}
  double sent_bytes = 0;
  int polls = 0;

  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  std::unique_ptr<Communicator> split(int color, int key) override { return inner_.split(color, key); }
  Pending all_reduce(View view, Reduce op, Stream& after) override { return inner_.all_reduce(view, op, after); }
  Pending all_gather(ConstView in, View out, Stream& after) override { return inner_.all_gather(in, out, after); }
  Pending reduce_scatter(ConstView in, View out, Reduce op, Stream& after) override {
    return inner_.reduce_scatter(in, out, op, after);
  }
  Pending broadcast(View view, int root, Stream& after) override { return inner_.broadcast(view, root, after); }
  Pending all_to_all_v(ConstView in, std::span<const Index> send, View out, std::span<const Index> recv,
                       Stream& after) override {
    return inner_.all_to_all_v(in, send, out, recv, after);
  }
  Pending exchange(std::span<const Transfer> transfers, Stream& after) override {
    for (const Transfer& transfer : transfers)
      if (transfer.to >= 0) sent_bytes += static_cast<double>(transfer.send.spec().bytes());
    return inner_.exchange(transfers, after);
  }
  std::uint64_t agree_max(std::uint64_t value) override { return inner_.agree_max(value); }
  void barrier() override { inner_.barrier(); }
  void poll() noexcept override {
    ++polls;
    inner_.poll();
  }
  void abort() noexcept override { inner_.abort(); }

 private:
  Communicator& inner_;
};

}  // namespace plasmid::test
