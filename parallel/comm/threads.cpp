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

struct CollectivePending;
struct ExchangePending;

struct Own {  // of one rank in one group, also for operations that outlive the communicator
  Membership member;
  Traffic traffic;
  std::uint64_t next = 0;  // number of this rank's next collective on this group
  Pool<CollectivePending> collectives;
  Pool<ExchangePending> exchanges;
};

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

struct CollectivePending final : Pending::Impl {
  std::shared_ptr<Own> own;  // while in use
  Collective* collective = nullptr;
  Kind kind = Kind::barrier;

  void wait(Stream&) override { finish(); }
  void finish() const {
    const Membership& member = own->member;
    const double begin = seconds();
    Lock lock(member.world->mutex);
    member.await(
        lock, name_of(kind), [&] { return collective->done; }, [&] { return missing(*member.group, *collective); });
    member.clock() = std::max(member.clock(), collective->time);
    own->traffic.collective_wait += seconds() - begin;
  }
  void retire() noexcept override {
    const std::shared_ptr<Own> keep = std::move(own);
    const Lock lock(keep->member.world->mutex);
    if (!collective->done) keep->member.abort_locked();
    keep->member.group->leave(*collective);
    keep->collectives.give(*this);
  }
};

struct ExchangePending final : Pending::Impl {
  std::shared_ptr<Own> own;  // while in use
  std::vector<Side> sides;   // where the mailboxes point to
  double posted = 0;         // seconds

  void wait(Stream&) override {
    const Membership& member = own->member;
    const double begin = seconds();
    Lock lock(member.world->mutex);
    for (const Side& side : sides) {
      member.await(
          lock, side.sends ? "exchange (send)" : "exchange (receive)", [&] { return side.met; },
          [&] { return "rank " + std::to_string(member.group->members[static_cast<std::size_t>(side.peer)]); });
      member.clock() = std::max(member.clock(), side.arrival);
    }
    const double end = seconds();
    own->traffic.exchange_wait += end - begin;
    own->traffic.flight_seconds += end - posted;
    ++own->traffic.exchanges;
  }
  void retire() noexcept override {
    const std::shared_ptr<Own> keep = std::move(own);
    const Lock lock(keep->member.world->mutex);
    for (const Side& side : sides) {
      if (side.met) continue;
      keep->member.group->withdraw(&side);
      keep->member.abort_locked();
    }
    keep->exchanges.give(*this);
  }
};

struct Retire {
  void operator()(CollectivePending* pending) const noexcept { pending->retire(); }
};
using CollectivePtr = std::unique_ptr<CollectivePending, Retire>;

class ThreadCommunicator final : public Communicator {
 public:
  explicit ThreadCommunicator(Membership member) : own_(std::make_shared<Own>()) { own_->member = std::move(member); }
  int rank() const override { return own_->member.rank; }
  int size() const override { return static_cast<int>(own_->member.group->members.size()); }

  std::unique_ptr<Communicator> split(int color, int key) override {
    const CollectivePtr split = run({.kind = Kind::split, .color = color, .key = key});
    if (color < 0) return nullptr;
    const std::shared_ptr<Group>& group = split->collective->parts.at(color);
    const auto mine = std::ranges::find(group->members, own_->member.world_rank());
    return std::make_unique<ThreadCommunicator>(
        Membership{own_->member.world, group, static_cast<int>(mine - group->members.begin())});
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
    return run({.kind = Kind::agree_max, .value = value})->collective->agreed;
  }
  void barrier() override { run({.kind = Kind::barrier}); }
  void poll() noexcept override {}
  Traffic traffic() const override { return own_->traffic; }
  void abort() noexcept override {
    const Lock lock(own_->member.world->mutex);
    own_->member.abort_locked();
  }

 private:
  CollectivePtr enter(Post call);
  Pending post(Post call) { return Pending(*enter(std::move(call)).release()); }
  CollectivePtr run(Post call) {  // the blocking ones
    CollectivePtr pending = enter(std::move(call));
    pending->finish();
    return pending;
  }

  std::shared_ptr<Own> own_;
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

CollectivePtr ThreadCommunicator::enter(Post call) {
  const Kind kind = call.kind;
  const Membership& member = own_->member;
  const Lock lock(member.world->mutex);
  member.check_alive(name_of(kind));
  Group& group = *member.group;
  Collective& collective = group.enter(own_->next++);
  const auto me = static_cast<std::size_t>(member.rank);
  collective.posts[me] = std::move(call);
  collective.here[me] = true;
  collective.time = std::max(collective.time, member.clock());
  if (++collective.arrived == size()) {
    perform(collective);
    if (kind == Kind::split) collective.parts = parts_by_color(group, collective.posts);
    collective.done = true;
    std::erase(group.open, &collective);
    member.world->changed.notify_all();
  }
  CollectivePending& pending = own_->collectives.take();
  pending.own = own_, pending.collective = &collective, pending.kind = kind;
  return CollectivePtr(&pending);
}

Pending ThreadCommunicator::exchange(std::span<const Transfer> transfers, Stream&) {
  contract::exchange(transfers, size());
  const Membership& member = own_->member;
  const Lock lock(member.world->mutex);
  member.check_alive("exchange");
  Group& group = *member.group;
  const double now = member.clock();
  ExchangePending& pending = own_->exchanges.take();
  pending.own = own_, pending.posted = seconds();
  pending.sides.clear();
  pending.sides.reserve(2 * transfers.size());  // so that they stay where they are
  for (const Transfer& transfer : transfers) {
    if (transfer.to >= 0) {
      threads::Mailbox& box = group.mail[{member.rank, transfer.to, transfer.channel}];
      pending.sides.push_back({.sends = true, .send = transfer.send, .peer = transfer.to, .posted = now});
      box.sends.push_back(&pending.sides.back());
      group.deliver(box, member.world->exchange_delay);
      own_->traffic.sent_bytes += static_cast<double>(transfer.send.spec().bytes());
    }
    if (transfer.from >= 0) {
      threads::Mailbox& box = group.mail[{transfer.from, member.rank, transfer.channel}];
      pending.sides.push_back({.recv = transfer.recv, .peer = transfer.from, .posted = now});
      box.recvs.push_back(&pending.sides.back());
      group.deliver(box, member.world->exchange_delay);
    }
  }
  member.world->changed.notify_all();
  return Pending(pending);
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
