#include "parallel/comm/threads.hpp"

#include <algorithm>
#include <utility>

#include "parallel/comm/contract.hpp"
#include "parallel/comm/thread_group.hpp"
#include "runtime/base/error.hpp"

namespace plasmid {
namespace {

using threads::Collective;
using threads::Group;
using threads::Kind;
using threads::Post;
using threads::Side;
using threads::SidePtr;
using Lock = std::unique_lock<std::mutex>;

struct Membership {  // what a pending operation needs after its communicator moved on
  std::shared_ptr<ThreadWorld::State> world;
  std::shared_ptr<Group> group;
  int rank = 0;  // in the group

  int world_rank() const { return group->members[static_cast<std::size_t>(rank)]; }
  double& clock() const { return world->clock[static_cast<std::size_t>(world_rank())]; }

  std::string who(const char* operation) const {
    return std::string(operation) + " on rank " + std::to_string(world_rank());
  }
  void check_alive(const char* operation) const {
    if (world->aborted_by >= 0)
      throw Error(ErrorCode::io, who(operation) + ": rank " + std::to_string(world->aborted_by) + " gave up");
  }
  void abort_locked() const noexcept {
    if (world->aborted_by < 0) world->aborted_by = world_rank();
    world->changed.notify_all();
  }
  // Returns when `done` holds; `late` names those who are missing, once patience has ended.
  template <class Done, class Late>
  void await(Lock& lock, const char* operation, Done done, Late late) const {
    const bool in_time =
        world->changed.wait_for(lock, world->patience, [&] { return done() || world->aborted_by >= 0; });
    if (done()) return;
    check_alive(operation);
    if (!in_time)
      throw Error(ErrorCode::io,
                  who(operation) + " waited " + std::to_string(world->patience.count()) + " ms for " + late());
  }
};

std::string missing(const Group& group, const Collective& collective) {
  std::string text;
  for (std::size_t r = 0; r < group.members.size(); ++r)
    if (!collective.here[r]) text += (text.empty() ? "rank " : ", ") + std::to_string(group.members[r]);
  return text;
}

struct CollectivePending final : Pending::Impl {
  Membership member;
  std::shared_ptr<Collective> collective;
  Kind kind;
  CollectivePending(Membership m, std::shared_ptr<Collective> c, Kind k)
      : member(std::move(m)), collective(std::move(c)), kind(k) {}
  void wait(Stream&) override { finish(); }
  void finish() const {
    Lock lock(member.world->mutex);
    member.await(
        lock, name_of(kind), [&] { return collective->done; }, [&] { return missing(*member.group, *collective); });
    member.clock() = std::max(member.clock(), collective->time);
  }
  ~CollectivePending() override {
    const Lock lock(member.world->mutex);
    if (!collective->done) member.abort_locked();
  }
};

struct ExchangePending final : Pending::Impl {
  Membership member;
  std::vector<SidePtr> sides;
  explicit ExchangePending(Membership m) : member(std::move(m)) {}
  void wait(Stream&) override {
    Lock lock(member.world->mutex);
    for (const SidePtr& side : sides) {
      member.await(
          lock, side->sends ? "exchange (send)" : "exchange (receive)", [&] { return side->met; },
          [&] { return "rank " + std::to_string(member.group->members[static_cast<std::size_t>(side->peer)]); });
      member.clock() = std::max(member.clock(), side->arrival);
    }
  }
  ~ExchangePending() override {
    const Lock lock(member.world->mutex);
    for (const SidePtr& side : sides) {
      if (side->met) continue;
      member.group->withdraw(side.get());
      member.abort_locked();
    }
  }
};

class ThreadCommunicator final : public Communicator {
 public:
  explicit ThreadCommunicator(Membership member) : member_(std::move(member)) {}
  int rank() const override { return member_.rank; }
  int size() const override { return static_cast<int>(member_.group->members.size()); }

  std::unique_ptr<Communicator> split(int color, int key) override {
    const auto collective = run({.kind = Kind::split, .color = color, .key = key});
    if (color < 0) return nullptr;
    const std::shared_ptr<Group>& group = collective->parts.at(color);
    const auto mine = std::ranges::find(group->members, member_.world_rank());
    return std::make_unique<ThreadCommunicator>(
        Membership{member_.world, group, static_cast<int>(mine - group->members.begin())});
  }
  Pending all_reduce(View inout, Reduce op, Stream&) override {
    contract::all_reduce(inout);
    return post({.kind = Kind::all_reduce, .reduce = op, .in = inout, .out = inout});
  }
  Pending all_gather(ConstView in, View out, Stream&) override {
    contract::parts_of(in, out, size());
    return post({.kind = Kind::all_gather, .in = in, .out = out});
  }
  Pending reduce_scatter(ConstView in, View out, Reduce op, Stream&) override {
    contract::all_reduce(in);
    contract::parts_of(out, in, size());
    return post({.kind = Kind::reduce_scatter, .reduce = op, .in = in, .out = out});
  }
  Pending broadcast(View view, int root, Stream&) override {
    contract::travels(view);
    PLASMID_CHECK(0 <= root && root < size()) << "root " << root << " of " << size();
    return post({.kind = Kind::broadcast, .in = view, .out = view, .root = root});
  }
  Pending all_to_all_v(ConstView in, std::span<const Index> send, View out, std::span<const Index> recv,
                       Stream&) override {
    contract::all_to_all_v(in, send, out, recv, size());
    return post({.kind = Kind::all_to_all_v,
                 .in = in,
                 .out = out,
                 .send = {send.begin(), send.end()},
                 .recv = {recv.begin(), recv.end()}});
  }
  Pending exchange(std::span<const Transfer>, Stream&) override;
  std::uint64_t agree_max(std::uint64_t value) override {
    return run({.kind = Kind::agree_max, .value = value})->agreed;
  }
  void barrier() override { run({.kind = Kind::barrier}); }
  void poll() noexcept override {}
  void abort() noexcept override {
    const Lock lock(member_.world->mutex);
    member_.abort_locked();
  }

 private:
  std::unique_ptr<CollectivePending> enter(Post call);
  Pending post(Post call) { return Pending(enter(std::move(call))); }
  std::shared_ptr<Collective> run(Post call) {  // the blocking ones
    const auto pending = enter(std::move(call));
    pending->finish();
    return pending->collective;
  }

  Membership member_;
  std::uint64_t next_ = 0;  // number of this rank's next collective on this group
};

// Members that share a color, ordered by key and then by rank.
std::map<int, std::shared_ptr<Group>> parts_by_color(const Group& group, const std::vector<Post>& posts) {
  std::map<int, std::vector<std::pair<int, int>>> order;
  for (std::size_t r = 0; r < posts.size(); ++r)
    if (posts[r].color >= 0) order[posts[r].color].emplace_back(posts[r].key, static_cast<int>(r));
  std::map<int, std::shared_ptr<Group>> parts;
  for (auto& [color, ranks] : order) {
    std::ranges::sort(ranks);
    auto part = std::make_shared<Group>();
    for (const auto& [key, rank] : ranks) part->members.push_back(group.members[static_cast<std::size_t>(rank)]);
    parts.emplace(color, std::move(part));
  }
  return parts;
}

std::unique_ptr<CollectivePending> ThreadCommunicator::enter(Post call) {
  const Kind kind = call.kind;
  const Lock lock(member_.world->mutex);
  member_.check_alive(name_of(kind));
  Group& group = *member_.group;
  const std::uint64_t number = next_++;
  std::shared_ptr<Collective>& slot = group.open[number];
  if (!slot) {
    slot = std::make_shared<Collective>();
    slot->posts.resize(group.members.size());
    slot->here.resize(group.members.size());
  }
  const std::shared_ptr<Collective> collective = slot;
  const auto me = static_cast<std::size_t>(member_.rank);
  collective->posts[me] = std::move(call);
  collective->here[me] = true;
  collective->time = std::max(collective->time, member_.clock());
  if (++collective->arrived == size()) {
    perform(*collective);
    if (kind == Kind::split) collective->parts = parts_by_color(group, collective->posts);
    collective->done = true;
    group.open.erase(number);
    member_.world->changed.notify_all();
  }
  return std::make_unique<CollectivePending>(member_, collective, kind);
}

Pending ThreadCommunicator::exchange(std::span<const Transfer> transfers, Stream&) {
  contract::exchange(transfers, size());
  auto pending = std::make_unique<ExchangePending>(member_);
  const Lock lock(member_.world->mutex);
  member_.check_alive("exchange");
  Group& group = *member_.group;
  const double now = member_.clock();
  for (const Transfer& transfer : transfers) {
    if (transfer.to >= 0) {
      threads::Mailbox& box = group.mail[{member_.rank, transfer.to, transfer.channel}];
      box.sends.push_back(
          std::make_shared<Side>(Side{.sends = true, .send = transfer.send, .peer = transfer.to, .posted = now}));
      pending->sides.push_back(box.sends.back());
      group.deliver(box, member_.world->exchange_delay);
    }
    if (transfer.from >= 0) {
      threads::Mailbox& box = group.mail[{transfer.from, member_.rank, transfer.channel}];
      box.recvs.push_back(std::make_shared<Side>(Side{.recv = transfer.recv, .peer = transfer.from, .posted = now}));
      pending->sides.push_back(box.recvs.back());
      group.deliver(box, member_.world->exchange_delay);
    }
  }
  member_.world->changed.notify_all();
  return Pending(std::move(pending));
}

}  // namespace

ThreadWorld::ThreadWorld(int ranks, std::chrono::milliseconds patience) : state_(std::make_shared<State>()) {
  PLASMID_CHECK(ranks >= 1) << ranks << " ranks";
  state_->patience = patience;
  state_->clock.resize(static_cast<std::size_t>(ranks));
  state_->everyone = std::make_shared<Group>();
  for (int rank = 0; rank < ranks; ++rank) state_->everyone->members.push_back(rank);
}

std::unique_ptr<Communicator> ThreadWorld::communicator(int rank) {
  PLASMID_CHECK(0 <= rank && rank < std::ssize(state_->clock)) << "rank " << rank;
  return std::make_unique<ThreadCommunicator>(Membership{state_, state_->everyone, rank});
}

void ThreadWorld::set_exchange_delay(double delay) {
  const Lock lock(state_->mutex);
  state_->exchange_delay = delay;
}

void ThreadWorld::advance_clock(int rank, double work) {
  const Lock lock(state_->mutex);
  state_->clock[static_cast<std::size_t>(rank)] += work;
}

double ThreadWorld::clock(int rank) const {
  const Lock lock(state_->mutex);
  return state_->clock[static_cast<std::size_t>(rank)];
}

int ThreadWorld::aborted_by() const {
  const std::lock_guard lock(state_->mutex);
  return state_->aborted_by;
}

}  // namespace plasmid
