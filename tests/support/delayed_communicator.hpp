#pragma once
#include <algorithm>
#include <list>
#include <vector>

#include "tests/support/passing_communicator.hpp"

namespace plasmid::test {

// Point-to-point transfers that need `delay` ticks, where a tick is one poll of this rank: as in MPI, nothing moves
// outside calls, and no clock on the wall counts. The data arrive at the end of that time and not before. A wait that
// comes too early spends the ticks that are missing: they are what computing did not hide.
class DelayedCommunicator final : public PassingCommunicator {
 public:
  DelayedCommunicator(Communicator& inner, Index delay) : PassingCommunicator(inner), delay_(delay) {}

  Index exposed = 0;           // ticks spent in waits
  std::vector<Index> windows;  // of each transfer group, ticks between its posting and its wait

  Pending exchange(std::span<const Transfer> transfers, Stream& after) override {
    if (transfers.empty()) return {};
    Flight& flight = in_flight_.emplace_back();
    flight.transfers.assign(transfers.begin(), transfers.end());
    flight.posted = ticks_, flight.after = &after;
    return Pending(std::make_unique<Arrival>(*this, in_flight_, std::prev(in_flight_.end())));
  }
  void poll() noexcept override {
    pass(1);
    inner_.poll();
  }

 private:
  struct Flight {
    std::vector<Transfer> transfers;
    Index posted = 0;
    Stream* after = nullptr;
    Pending delivery;
    bool delivered = false;
  };
  using Flights = std::list<Flight>;

  struct Arrival final : Pending::Impl {
    DelayedCommunicator& delayed;
    Flights& flights;
    Flights::iterator flight;
    Arrival(DelayedCommunicator& owner, Flights& all, Flights::iterator at)
        : delayed(owner), flights(all), flight(at) {}
    void wait(Stream& consumer) override {
      const Index window = delayed.ticks_ - flight->posted, missing = std::max<Index>(0, delayed.delay_ - window);
      delayed.windows.push_back(window);
      delayed.exposed += missing;
      delayed.pass(missing);
      flight->delivery.wait(consumer);
    }
    ~Arrival() override { flights.erase(flight); }
  };

  void pass(Index ticks) {
    ticks_ += ticks;
    for (Flight& flight : in_flight_) {
      if (flight.delivered || ticks_ - flight.posted < delay_) continue;
      flight.delivery = inner_.exchange(flight.transfers, *flight.after);
      flight.delivered = true;
    }
  }

  Index delay_, ticks_ = 0;
  Flights in_flight_;
};

}  // namespace plasmid::test
