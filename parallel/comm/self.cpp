#include "parallel/comm/self.hpp"

#include <array>
#include <cstring>
#include <deque>
#include <vector>

#include "parallel/comm/contract.hpp"
#include "runtime/base/error.hpp"

namespace plasmid {
namespace {

void copy_bytes(ConstView from, View to) {
  PLASMID_CHECK(from.dtype == to.dtype && from.count() == to.count())
      << from.count() << " " << name_of(from.dtype) << " sent, " << to.count() << " " << name_of(to.dtype)
      << " awaited";
  if (from.count() > 0) std::memmove(to.data, from.data, static_cast<std::size_t>(from.spec().bytes()));
}

struct Side {  // one posted half of a transfer
  ConstView send;
  View recv;
  std::shared_ptr<bool> met = std::make_shared<bool>(false);
};

struct Channel {
  std::deque<Side> sends, recvs;
};

struct SelfPending final : Pending::Impl {
  std::vector<std::shared_ptr<bool>> sides;
  void wait(Stream&) override {
    for (const auto& met : sides)
      if (!*met) throw Error(ErrorCode::io, "exchange: a lone rank waits for a transfer that it never posted");
  }
};

class SelfCommunicator final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  std::unique_ptr<Communicator> split(int color, int) override {
    return color < 0 ? nullptr : std::make_unique<SelfCommunicator>();
  }

  Pending all_reduce(View inout, Reduce, Stream&) override {
    contract::all_reduce(inout);
    return {};
  }
  Pending all_gather(ConstView in, View out, Stream&) override {
    contract::parts_of(in, out, 1);
    copy_bytes(in, out);
    return {};
  }
  Pending reduce_scatter(ConstView in, View out, Reduce, Stream&) override {
    contract::all_reduce(in);
    contract::parts_of(out, in, 1);
    copy_bytes(in, out);
    return {};
  }
  Pending broadcast(View view, int root, Stream&) override {
    contract::travels(view);
    PLASMID_CHECK(root == 0);
    return {};
  }
  Pending all_to_all_v(ConstView in, std::span<const Index> send, View out, std::span<const Index> recv,
                       Stream&) override {
    contract::all_to_all_v(in, send, out, recv, 1);
    copy_bytes(ConstView(in.data, {{send[0]}, in.dtype}), View(out.data, {{recv[0]}, out.dtype}));
    return {};
  }
  Pending exchange(std::span<const Transfer> transfers, Stream&) override {
    contract::exchange(transfers, 1);
    auto pending = std::make_unique<SelfPending>();
    for (const Transfer& transfer : transfers) {
      Channel& channel = channels_[static_cast<std::size_t>(transfer.channel)];
      if (transfer.to == 0)
        channel.sends.push_back({transfer.send, {}}), pending->sides.push_back(channel.sends.back().met);
      if (transfer.from == 0)
        channel.recvs.push_back({{}, transfer.recv}), pending->sides.push_back(channel.recvs.back().met);
      deliver(channel);
    }
    return Pending(std::move(pending));
  }

  std::uint64_t agree_max(std::uint64_t value) override { return value; }
  void barrier() override {}
  void poll() noexcept override {}
  void abort() noexcept override {}

 private:
  static void deliver(Channel& channel) {
    while (!channel.sends.empty() && !channel.recvs.empty()) {
      const Side& send = channel.sends.front();
      const Side& recv = channel.recvs.front();
      copy_bytes(send.send, recv.recv);
      *send.met = *recv.met = true;
      channel.sends.pop_front();
      channel.recvs.pop_front();
    }
  }

  std::array<Channel, contract::kChannels> channels_;
};

}  // namespace

std::unique_ptr<Communicator> make_self_communicator() { return std::make_unique<SelfCommunicator>(); }

}  // namespace plasmid
