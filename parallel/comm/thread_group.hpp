#pragma once
#include <array>
#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "parallel/comm/pool.hpp"
#include "parallel/comm/threads.hpp"

// What the threads of a ThreadWorld share. Everything here is guarded by the world's one mutex.
namespace plasmid {

namespace threads {
struct Group;
}

struct ThreadWorld::State {
  std::mutex mutex;
  std::condition_variable changed;
  std::chrono::milliseconds patience{};
  int aborted_by = -1;  // rank of the world
  double exchange_delay = 0;
  std::vector<double> clock;  // by rank of the world
  std::shared_ptr<threads::Group> everyone;
};

namespace threads {

enum class Kind { all_reduce, all_gather, reduce_scatter, broadcast, all_to_all_v, agree_max, barrier, split };
const char* name_of(Kind);

struct Post {  // one member's call
  Kind kind = Kind::barrier;
  Reduce reduce = Reduce::sum;
  ConstView in = {};
  View out = {};
  int root = 0;
  std::vector<Index> send = {}, recv = {};
  std::uint64_t value = 0;
  int color = 0, key = 0;
  bool agrees_with(const Post&) const;  // the same collective, dtype and counts
};

struct Collective {  // done by the last member to come, for all, in rank order
  std::vector<Post> posts;
  std::vector<bool> here;
  int arrived = 0, holders = 0;  // members that came, and whose operations have not ended
  bool done = false;
  double time = 0;
  std::uint64_t number = 0, agreed = 0;
  std::map<int, std::shared_ptr<Group>> parts;  // split: by color
};
void perform(Collective&);  // all but split

struct Side {  // half of a transfer, waiting for the other half
  bool sends = false;
  ConstView send = {};
  View recv = {};
  int peer = -1;  // rank in the group
  double posted = 0, arrival = 0;
  bool met = false;
};

struct Mailbox {
  std::vector<Side*> sends, recvs;
};

struct Group {
  std::vector<int> members;                           // ranks of the world
  std::vector<Collective*> open;                      // that members are still to come to
  std::map<std::tuple<int, int, int>, Mailbox> mail;  // (from, to, channel)

  Collective& enter(std::uint64_t number);  // one more holder
  void leave(Collective&) noexcept;         // one fewer; the last one gives it back
  void deliver(Mailbox&, double delay);
  void withdraw(const Side*);  // its buffer is about to die

 private:
  Pool<Collective> collectives_;
};

}  // namespace threads
}  // namespace plasmid
