#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launcher/watchdog/roll.hpp"
#include "runtime/io/file.hpp"

// Connections between the watchdogs of one job's ranks: TCP, none of MPI, so that they work while MPI does not. They
// carry words of fixed size between processes of one program.
namespace plasmid {

struct Word {
  enum class Kind : std::int32_t { beat, farewell, end };
  std::uint64_t token = 0;  // the job's; words without it are not for us
  Kind kind = Kind::beat;
  std::int32_t rank = 0;
  std::int32_t exit_status = 0;  // of `end`: whoever hears it ends its process
  std::int32_t unused = 0;
  RankState state{};
};

class Line {
 public:
  explicit Line(Descriptor connected);  // a stream socket that does not block
  void send(const Word&) noexcept;      // never waits: what does not fit, since nobody reads, is dropped
  std::vector<Word> receive(std::uint64_t token) noexcept;  // the words that have come; a wrong token breaks the line
  bool broken() const { return broken_; }                   // the other end is gone
  int descriptor() const { return socket_.get(); }

 private:
  void flush() noexcept;
  Descriptor socket_;
  std::vector<std::byte> unsent_, unread_;
  bool broken_ = false;
};

// Where lines come in: this host's loopback, or all of its addresses. Throws Error{io}.
class Port {
 public:
  explicit Port(bool other_hosts);
  std::uint16_t number() const { return number_; }
  std::optional<Line> accept() noexcept;  // one that waits, or nothing
  int descriptor() const { return socket_.get(); }

 private:
  Descriptor socket_;
  std::uint16_t number_ = 0;
};

using Addresses = std::array<std::uint32_t, 8>;  // IPv4 in network order; 0: none
Addresses loopback_address();
Addresses addresses_of_host();

struct Answered {
  Line line;
  Word answer;
};
// Tries the addresses in turn: a line whose other end answered `greeting` with the same token, within two seconds each;
// else nothing.
std::optional<Answered> call(const Addresses&, std::uint16_t port, const Word& greeting);

}  // namespace plasmid
