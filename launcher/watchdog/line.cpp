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
constexpr int kBlocks = 16;         // read in one call
constexpr std::size_t kWords = 64;  // of a block

Descriptor stream_socket() { return Descriptor(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)); }

sockaddr_in place(std::uint32_t address, std::uint16_t port) {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = address;
  name.sin_port = htons(port);
  return name;
}

bool ready(int descriptor, short events, std::chrono::milliseconds patience) {
  pollfd wanted{descriptor, events, 0};
  int got = 0;
  do got = ::poll(&wanted, 1, static_cast<int>(patience.count()));
  while (got < 0 && errno == EINTR);
  return got == 1;
}

bool connected(int socket, const sockaddr_in& to, std::chrono::milliseconds patience) {
  if (::connect(socket, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0) return true;
  if (errno != EINPROGRESS || !ready(socket, POLLOUT, patience)) return false;
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
  if (!unsent_.empty() || !takes_words_) return;
  const auto* bytes = reinterpret_cast<const std::byte*>(&word);
  unsent_.assign(bytes, bytes + sizeof word);
  flush();
}

// send and recv, for what they carry is not in the process's count of bytes read and written. That a word is refused
// does not break the line: there may still be words to read, a farewell among them.
void Line::flush() noexcept {
  while (!unsent_.empty() && takes_words_) {
    const ssize_t put = ::send(socket_.get(), unsent_.data(), unsent_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS)) return;
    if (put < 0) {
      takes_words_ = false;
      return;
    }
    unsent_.erase(unsent_.begin(), unsent_.begin() + put);
  }
}

std::vector<Word> Line::receive(std::uint64_t token) noexcept {
  std::array<std::byte, kWords * sizeof(Word)> block;
  std::vector<Word> words;
  for (int blocks = 0; blocks < kBlocks && !broken();) {
    const ssize_t got = ::recv(socket_.get(), block.data(), block.size(), MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
    // An address that is not reached any more tells nothing of the process there.
    if (got <= 0) {
      end_ = got == 0 || errno == ECONNRESET ? End::closed : End::failed;
      break;
    }
    ++blocks;
    unread_.insert(unread_.end(), block.begin(), block.begin() + got);
    std::size_t read = 0;
    for (; unread_.size() - read >= sizeof(Word) && !broken(); read += sizeof(Word)) {
      Word word;
      std::memcpy(&word, unread_.data() + read, sizeof word);
      if (word.token == token)
        words.push_back(word);
      else
        end_ = End::failed;
    }
    unread_.erase(unread_.begin(), unread_.begin() + static_cast<std::ptrdiff_t>(read));
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

std::optional<Answered> call(const Addresses& addresses, std::uint16_t port, const Word& greeting,
                             std::chrono::milliseconds patience) {
  for (const std::uint32_t address : addresses) {
    if (address == 0) break;
    Descriptor socket = stream_socket();
    if (!socket || !connected(socket.get(), place(address, port), patience)) continue;
    Line line(std::move(socket));
    line.send(greeting);
    while (!line.broken() && ready(line.descriptor(), POLLIN, patience))
      if (const auto words = line.receive(greeting.token); !words.empty())
        return Answered{std::move(line), words.back()};
    Word farewell = greeting;
    farewell.kind = Word::Kind::farewell;
    line.send(farewell);
  }
  return std::nullopt;
}

}  // namespace plasmid
