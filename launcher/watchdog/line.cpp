#include "launcher/watchdog/line.hpp"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <type_traits>

#include "runtime/base/error.hpp"

namespace plasmid {
namespace {

static_assert(std::is_trivially_copyable_v<Word>);
constexpr int kPatience = 2000;  // ms

Descriptor stream_socket() { return Descriptor(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)); }

sockaddr_in place(std::uint32_t address, std::uint16_t port) {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = address;
  name.sin_port = htons(port);
  return name;
}

bool ready(int descriptor, short events) {
  pollfd wanted{descriptor, events, 0};
  int got = 0;
  do got = ::poll(&wanted, 1, kPatience);
  while (got < 0 && errno == EINTR);
  return got == 1;
}

bool connected(int socket, const sockaddr_in& to) {
  if (::connect(socket, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0) return true;
  if (errno != EINPROGRESS || !ready(socket, POLLOUT)) return false;
  int problem = 0;
  socklen_t size = sizeof problem;
  return ::getsockopt(socket, SOL_SOCKET, SO_ERROR, &problem, &size) == 0 && problem == 0;
}

}  // namespace

Line::Line(Descriptor connected) : socket_(std::move(connected)) {
  const int on = 1;
  ::setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

void Line::send(const Word& word) noexcept {
  flush();
  if (!unsent_.empty() || broken_) return;
  const auto* bytes = reinterpret_cast<const std::byte*>(&word);
  unsent_.assign(bytes, bytes + sizeof word);
  flush();
}

// send and recv, for what they carry is not in the process's count of bytes read and written.
void Line::flush() noexcept {
  while (!unsent_.empty() && !broken_) {
    const ssize_t put = ::send(socket_.get(), unsent_.data(), unsent_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS)) return;
    if (put < 0) {
      broken_ = true;
      return;
    }
    unsent_.erase(unsent_.begin(), unsent_.begin() + put);
  }
}

std::vector<Word> Line::receive(std::uint64_t token) noexcept {
  std::array<std::byte, 64 * sizeof(Word)> block;
  while (!broken_) {
    const ssize_t got = ::recv(socket_.get(), block.data(), block.size(), MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
    broken_ = got <= 0;
    if (got > 0) unread_.insert(unread_.end(), block.begin(), block.begin() + got);
  }
  std::vector<Word> words(unread_.size() / sizeof(Word));
  const auto whole = words.size() * sizeof(Word);
  if (whole > 0) std::memcpy(words.data(), unread_.data(), whole);
  unread_.erase(unread_.begin(), unread_.begin() + static_cast<std::ptrdiff_t>(whole));
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (words[i].token == token) continue;
    words.resize(i);
    broken_ = true;
  }
  return words;
}

Port::Port(bool other_hosts) : socket_(stream_socket()) {
  sockaddr_in name = place(htonl(other_hosts ? INADDR_ANY : INADDR_LOOPBACK), 0);
  socklen_t size = sizeof name;
  if (!socket_ || ::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0 ||
      ::listen(socket_.get(), SOMAXCONN) != 0 ||
      ::getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&name), &size) != 0)
    throw Error(ErrorCode::io, std::string("the watchdog has no socket: ") + std::strerror(errno));
  number_ = ntohs(name.sin_port);
}

std::optional<Line> Port::accept() noexcept {
  Descriptor line(::accept4(socket_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!line) return std::nullopt;
  return Line(std::move(line));
}

Addresses loopback_address() { return {htonl(INADDR_LOOPBACK)}; }

Addresses addresses_of_host() {
  Addresses addresses{};
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return addresses;
  std::size_t count = 0;
  for (const ifaddrs* entry = list; entry && count < addresses.size(); entry = entry->ifa_next) {
    const bool usable = entry->ifa_addr && entry->ifa_addr->sa_family == AF_INET && (entry->ifa_flags & IFF_UP) &&
                        !(entry->ifa_flags & IFF_LOOPBACK);
    if (usable) addresses[count++] = reinterpret_cast<const sockaddr_in*>(entry->ifa_addr)->sin_addr.s_addr;
  }
  ::freeifaddrs(list);
  return addresses;
}

std::optional<Answered> call(const Addresses& addresses, std::uint16_t port, const Word& greeting) {
  for (const std::uint32_t address : addresses) {
    if (address == 0) break;
    Descriptor socket = stream_socket();
    if (!socket || !connected(socket.get(), place(address, port))) continue;
    Line line(std::move(socket));
    line.send(greeting);
    while (!line.broken() && ready(line.descriptor(), POLLIN))
      if (const auto words = line.receive(greeting.token); !words.empty())
        return Answered{std::move(line), words.back()};
  }
  return std::nullopt;
}

}  // namespace plasmid
