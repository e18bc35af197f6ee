#pragma once
#include <utility>

namespace plasmid {

// Owns one raw handle (a file descriptor, an MPI_Comm, an htsFile*). Traits: `static T empty()` and
// `static void close(T) noexcept`. A moved-from handle is empty: no class writes its own five special members.
template <class T, class Traits>
class UniqueHandle {
 public:
  UniqueHandle() = default;
  explicit UniqueHandle(T value) : value_(value) {}
  UniqueHandle(UniqueHandle&& other) noexcept : value_(other.release()) {}
  UniqueHandle& operator=(UniqueHandle&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }
  ~UniqueHandle() { reset(); }

  T get() const noexcept { return value_; }
  explicit operator bool() const noexcept { return value_ != Traits::empty(); }
  T release() noexcept { return std::exchange(value_, Traits::empty()); }
  void reset(T value = Traits::empty()) noexcept {
    if (value_ != Traits::empty()) Traits::close(value_);
    value_ = value;
  }

 private:
  T value_ = Traits::empty();
};

}  // namespace plasmid
