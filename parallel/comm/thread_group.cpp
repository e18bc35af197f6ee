#include "parallel/comm/thread_group.hpp"

#include <algorithm>
#include <cstring>

#include "parallel/comm/reduction.hpp"

namespace plasmid::threads {
namespace {

void copy_elements(ConstView from, Index from_begin, View to, Index to_begin, Index count) {
  const Index size = size_of(from.dtype);
  const std::byte* source = from.data + from_begin * size;
  std::byte* target = to.data + to_begin * size;
  if (count > 0 && source != target) std::memcpy(target, source, static_cast<std::size_t>(count * size));
}

template <class AnyView>
AnyView part(const AnyView& view, Index begin, Index count) {
  return AnyView(view.data + begin * size_of(view.dtype), {{count}, view.dtype}, view.device);
}

void all_reduce(std::vector<Post>& posts) {
  const View sum = posts.front().out;
  for (std::size_t r = 1; r < posts.size(); ++r) reduce_into(sum, posts[r].out, posts[r].reduce);
  for (std::size_t r = 1; r < posts.size(); ++r) copy_elements(sum, 0, posts[r].out, 0, sum.count());
}

void all_gather(std::vector<Post>& posts) {
  for (const Post& to : posts) {
    const Index count = to.in.count();
    for (std::size_t r = 0; r < posts.size(); ++r)
      copy_elements(posts[r].in, 0, to.out, static_cast<Index>(r) * count, count);
  }
}

void reduce_scatter(std::vector<Post>& posts) {
  for (std::size_t r = 0; r < posts.size(); ++r) {
    const View sum = posts[r].out;
    const Index count = sum.count(), begin = static_cast<Index>(r) * count;
    copy_elements(posts.front().in, begin, sum, 0, count);
    for (std::size_t from = 1; from < posts.size(); ++from)
      reduce_into(part(sum, 0, count), part(posts[from].in, begin, count), posts[from].reduce);
  }
}

void all_to_all_v(std::vector<Post>& posts) {
  std::vector<Index> taken(posts.size(), 0);  // of each sender's line
  for (std::size_t to = 0; to < posts.size(); ++to) {
    Index begin = 0;
    for (std::size_t from = 0; from < posts.size(); ++from) {
      const Index count = posts[from].send[to];
      PLASMID_CHECK(count == posts[to].recv[from])
          << "rank " << from << " sends " << count << " elements, rank " << to << " awaits " << posts[to].recv[from];
      copy_elements(posts[from].in, taken[from], posts[to].out, begin, count);
      taken[from] += count;
      begin += count;
    }
  }
}

}  // namespace

const char* name_of(Kind kind) {
  constexpr const char* names[] = {"all_reduce",   "all_gather", "reduce_scatter", "broadcast",
                                   "all_to_all_v", "agree_max",  "barrier",        "split"};
  return names[static_cast<int>(kind)];
}

bool Post::agrees_with(const Post& other) const {
  if (kind != other.kind || reduce != other.reduce || root != other.root) return false;
  if (kind == Kind::all_to_all_v) return in.dtype == other.in.dtype;
  return in.dtype == other.in.dtype && in.count() == other.in.count() && out.dtype == other.out.dtype &&
         out.count() == other.out.count();
}

void perform(Collective& collective) {
  std::vector<Post>& posts = collective.posts;
  for (std::size_t r = 1; r < posts.size(); ++r)
    PLASMID_CHECK(posts[r].agrees_with(posts.front()))
        << "rank 0 calls " << name_of(posts.front().kind) << " of " << posts.front().in.count() << " -> "
        << posts.front().out.count() << " " << name_of(posts.front().out.dtype) << ", rank " << r << " "
        << name_of(posts[r].kind) << " of " << posts[r].in.count() << " -> " << posts[r].out.count() << " "
        << name_of(posts[r].out.dtype);
  switch (posts.front().kind) {
    case Kind::all_reduce:
      return all_reduce(posts);
    case Kind::all_gather:
      return all_gather(posts);
    case Kind::reduce_scatter:
      return reduce_scatter(posts);
    case Kind::broadcast: {
      const View from = posts[static_cast<std::size_t>(posts.front().root)].out;
      for (const Post& to : posts)
        if (to.out.data != from.data) copy_elements(from, 0, to.out, 0, from.count());
      return;
    }
    case Kind::all_to_all_v:
      return all_to_all_v(posts);
    case Kind::agree_max:
      for (const Post& post : posts) collective.agreed = std::max(collective.agreed, post.value);
      return;
    case Kind::barrier:
    case Kind::split:
      return;
  }
}

Collective& Group::enter(std::uint64_t number) {
  const auto known = std::ranges::find(open, number, &Collective::number);
  Collective& collective = known != open.end() ? **known : collectives_.take();
  if (known == open.end()) {
    collective.posts.resize(members.size());
    collective.here.assign(members.size(), false);
    collective.arrived = collective.holders = 0;
    collective.done = false;
    collective.time = 0, collective.number = number, collective.agreed = 0;
    collective.parts.clear();
    open.push_back(&collective);
  }
  ++collective.holders;
  return collective;
}

void Group::leave(Collective& collective) noexcept {
  if (--collective.holders == 0 && collective.done) collectives_.give(collective);
}

void Group::deliver(Mailbox& box, double delay) {
  while (!box.sends.empty() && !box.recvs.empty()) {
    Side& send = *box.sends.front();
    Side& recv = *box.recvs.front();
    PLASMID_CHECK(send.send.dtype == recv.recv.dtype && send.send.count() == recv.recv.count())
        << "rank " << recv.peer << " sends " << send.send.count() << " " << plasmid::name_of(send.send.dtype)
        << ", rank " << send.peer << " awaits " << recv.recv.count() << " " << plasmid::name_of(recv.recv.dtype);
    copy_elements(send.send, 0, recv.recv, 0, send.send.count());
    send.arrival = recv.arrival = std::max(send.posted, recv.posted) + delay;
    send.met = recv.met = true;
    box.sends.erase(box.sends.begin());
    box.recvs.erase(box.recvs.begin());
  }
}

void Group::withdraw(const Side* side) {
  for (auto& [key, box] : mail) {
    std::erase(box.sends, side);
    std::erase(box.recvs, side);
  }
}

}  // namespace plasmid::threads
