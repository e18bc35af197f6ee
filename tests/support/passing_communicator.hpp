#pragma once
#include "parallel/comm/communicator.hpp"

namespace plasmid::test {

// Passes everything on to another communicator: what decorators derive from.
class PassingCommunicator : public Communicator {
 public:
  explicit PassingCommunicator(Communicator& inner) : inner_(inner) {}

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
    return inner_.exchange(transfers, after);
  }
  std::uint64_t agree_max(std::uint64_t value) override { return inner_.agree_max(value); }
  void barrier() override { inner_.barrier(); }
  void poll() noexcept override { inner_.poll(); }
  Traffic traffic() const override { return inner_.traffic(); }
  void abort() noexcept override { inner_.abort(); }

 protected:
  Communicator& inner_;
};

}  // namespace plasmid::test
