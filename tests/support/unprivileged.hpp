#pragma once
#include <sys/fsuid.h>
#include <unistd.h>

namespace plasmid::test {

// Root may open any file; while this object lives, the calling thread meets permissions as any other user does.
class Unprivileged {
 public:
  Unprivileged() {
    if (::geteuid() == 0) ::setfsuid(kNobody);
  }
  Unprivileged(const Unprivileged&) = delete;
  Unprivileged& operator=(const Unprivileged&) = delete;
  ~Unprivileged() {
    if (::geteuid() == 0) ::setfsuid(0);
  }
  bool holds() const { return ::geteuid() != 0 || ::setfsuid(static_cast<uid_t>(-1)) == static_cast<int>(kNobody); }

 private:
  static constexpr uid_t kNobody = 65534;
};

}  // namespace plasmid::test
