#include <exception>
#include <utility>

#include "parallel/comm/communicator.hpp"

namespace plasmid {

Pending& Pending::operator=(Pending&& other) noexcept {
  PLASMID_CHECK(!impl_ || std::uncaught_exceptions() > 0) << "a transfer was replaced before anybody waited for it";
  impl_ = std::move(other.impl_);
  return *this;
}

Pending::~Pending() {
  PLASMID_CHECK(!impl_ || std::uncaught_exceptions() > 0) << "a transfer ended that nobody waited for";
}

void Pending::wait(Stream& consumer) {
  if (const auto impl = std::move(impl_)) impl->wait(consumer);
}

Traffic Traffic::operator-(const Traffic& before) const {
  return {sent_bytes - before.sent_bytes, flight_seconds - before.flight_seconds, exchange_wait - before.exchange_wait,
          collective_wait - before.collective_wait, exchanges - before.exchanges};
}

}  // namespace plasmid
