#include "launcher/planner/ring_time.hpp"

#include <algorithm>

#include "runtime/base/check.hpp"

namespace plasmid {
namespace {

class Turn {
 public:
  Turn(const RingLoad& load, const Network& network)
      : load_(load),
        network_(network),
        ranks_(load.hops.size()),
        now_(ranks_),
        sending_(ranks_),
        chunk_there_(ranks_),
        passed_(ranks_),
        home_(ranks_),
        stolen_(ranks_) {
    PLASMID_CHECK(load.work.size() == ranks_ && load.chunk_bytes.size() == ranks_);
    for (std::size_t rank = 0; rank < ranks_; ++rank) {
      PLASMID_CHECK(load.work[rank].size() == load.hops[rank].size()) << "rank " << rank;
      length_ = std::max(length_, load.hops[rank].size());
    }
  }

  double forward() {
    for (std::size_t hop = 0; hop < length_; ++hop) {
      move_chunks(hop);
      each(hop, [&](std::size_t rank, const Hop&, const HopWork& work) {
        now_[rank] = std::max(computed(rank, work.forward), chunk_there_[rank]);
      });
    }
    return *std::ranges::max_element(now_);
  }

  double backward() {
    for (std::size_t hop = 0; hop < length_; ++hop) {
      move_chunks(hop);
      each(hop, [&](std::size_t rank, const Hop& now, const HopWork& work) {
        const double now_work = hop == 0 ? first_share(rank) * work.backward : work.backward;
        const double done = std::max({computed(rank, now_work), passed_[rank], home_[rank]});
        now_[rank] = done + (now.add_gradient ? work.add_gradients : 0);
      });
      move_gradients(hop);
      each(hop, [&](std::size_t rank, const Hop&, const HopWork&) {
        now_[rank] = std::max(now_[rank], chunk_there_[rank]);
      });
    }
    double end = 0;
    for (std::size_t rank = 0; rank < ranks_; ++rank) {
      if (!load_.work[rank].empty()) now_[rank] += (1 - first_share(rank)) * load_.work[rank][0].backward;
      end = std::max(end, ended(rank));
    }
    return end;
  }

 private:
  double first_share(std::size_t rank) const { return load_.hops[rank].size() > 1 ? load_.own_first : 1; }
  double ended(std::size_t rank) const { return std::max({now_[rank], passed_[rank], home_[rank]}); }

  template <class Body>
  void each(std::size_t hop, Body&& body) {
    for (std::size_t rank = 0; rank < ranks_; ++rank)
      if (hop < load_.hops[rank].size()) body(rank, load_.hops[rank][hop], load_.work[rank][hop]);
  }

  // What the transfers under way take from the core comes on top of the work.
  double computed(std::size_t rank, double work) {
    const double end = now_[rank] + work + stolen_[rank];
    stolen_[rank] = 0;
    return end;
  }

  // When a message arrives that both sides are ready for at `ready`.
  double transfer(std::size_t from, std::size_t to, int source, double ready) {
    const Link& link = network_.link(static_cast<int>(from), static_cast<int>(to));
    const double wire = load_.chunk_bytes[static_cast<std::size_t>(source)] / link.bytes_per_second;
    sending_[from] = std::max(ready, sending_[from]) + wire;
    stolen_[from] += link.core_share * wire, stolen_[to] += link.core_share * wire;
    return sending_[from] + link.latency;
  }

  void move_chunks(std::size_t hop) {
    std::ranges::fill(chunk_there_, 0.0);
    each(hop, [&](std::size_t rank, const Hop& now, const HopWork&) {
      if (!now.send) return;
      const std::size_t to = (rank + 1) % ranks_;
      const double there = transfer(rank, to, now.source, std::max(now_[rank], now_[to]));
      chunk_there_[rank] = std::max(chunk_there_[rank], there);
      chunk_there_[to] = std::max(chunk_there_[to], there);
    });
  }

  // `now_`: when each rank posts. Three buffers make the receiver of sums that come home wait at once where it has
  // others under way.
  void move_gradients(std::size_t hop) {
    for (std::size_t rank = 0; rank < ranks_; ++rank)
      if (hop < load_.hops[rank].size()) passed_[rank] = home_[rank] = 0;
    posted_ = now_;
    each(hop, [&](std::size_t rank, const Hop& now, const HopWork&) {
      if (now.gradient_to < 0) return;
      const auto to = static_cast<std::size_t>(now.gradient_to);
      const double there = transfer(rank, to, now.source, std::max(posted_[rank], posted_[to]));
      passed_[rank] = std::max(passed_[rank], there);
      double& awaited = now.gradient_to == now.source ? home_[to] : passed_[to];
      awaited = std::max(awaited, there);
    });
    each(hop, [&](std::size_t rank, const Hop& now, const HopWork&) {
      if (now.gradient_home_from < 0 || now.gradient_to < 0 || hop + 1 >= load_.hops[rank].size()) return;
      const Hop& next = load_.hops[rank][hop + 1];
      if (next.add_gradient && next.work) now_[rank] = std::max(now_[rank], home_[rank]);
    });
  }

  const RingLoad& load_;
  const Network& network_;
  std::size_t ranks_, length_ = 0;
  std::vector<double> now_;                     // when each rank's hop begins, then when it posts or ends
  std::vector<double> sending_;                 // until when each rank's outgoing side is taken
  std::vector<double> chunk_there_;             // of this hop: sent on and received
  std::vector<double> passed_, home_, posted_;  // gradients of the hop before: passed on; come home
  std::vector<double> stolen_;                  // core time of the transfers under way
};

}  // namespace

double forward_seconds(const RingLoad& load, const Network& network) { return Turn(load, network).forward(); }

double backward_seconds(const RingLoad& load, const Network& network) { return Turn(load, network).backward(); }

}  // namespace plasmid
