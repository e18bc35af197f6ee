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
  if (auto impl = std::exchange(impl_, nullptr)) impl->wait(consumer);
}

}  // namespace plasmid
