#pragma once
#include <array>
#include <chrono>
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
  // The words that have come, a bounded number a call; a wrong token breaks the line.
  std::vector<Word> receive(std::uint64_t token) noexcept;
  bool broken() const { return end_ != End::none; }    // nothing more comes
  bool closed() const { return end_ == End::closed; }  // by the other end, so its process ended or let go of it
  int descriptor() const { return socket_.get(); }

 private:
  void flush() noexcept;
  enum class End { none, closed, failed };  // failed: a network that gave up, or a stranger

  Descriptor socket_;
  std::vector<std::byte> unsent_, unread_;
  End end_ = End::none;
  bool takes_words_ = true;
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
// Tries the addresses in turn: a line whose other end answered `greeting` with the same token, within `patience` each;
// else nothing. A line that is given up says farewell.
std::optional<Answered> call(const Addresses&, std::uint16_t port, const Word& greeting,
                             std::chrono::milliseconds patience = std::chrono::seconds(2));

}  // namespace plasmid
