#pragma once
#include "runtime/device/device.hpp"

namespace plasmid {

class Event {};  // a point in a stream's order; on the host every recorded event has already happened

// An ordered queue of work on one device. Every operation takes the stream it runs on and returns at once in form; a
// host stream runs the work inline, so host and device code read the same. The caller blocks only in synchronize().
// Move-only: a stream has one owner, who outlives the work on it.
class Stream {
 public:
  explicit Stream(Device device = {}) : device_(device) {}
  Stream(Stream&&) noexcept = default;
  Stream& operator=(Stream&&) noexcept = default;

  Device device() const noexcept { return device_; }
  Event record() { return {}; }  // "everything enqueued so far"
  void wait(const Event&) {}     // later work here starts after the event
  void synchronize() {}

 private:
  Device device_;
};

}  // namespace plasmid
