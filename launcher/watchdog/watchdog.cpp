#include "launcher/watchdog/watchdog.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <future>
#include <mutex>
#include <random>
#include <thread>
#include <utility>

#include "launcher/bootstrap/signals.hpp"
#include "launcher/bootstrap/together.hpp"
#include "launcher/watchdog/line.hpp"
#include "launcher/watchdog/progress.hpp"
#include "runtime/base/error.hpp"

namespace plasmid {
namespace {

using namespace std::chrono_literals;
constexpr double kDefaultTimeout = 600;
constexpr auto kGrace = 2s;          // for the cause to be told, and for MPI_Abort to end the process
constexpr auto kRecording = 1500ms;  // of it, for a disk to take exit.json; the rest is standard error's

using HostName = std::array<std::int64_t, 8>;

std::vector<std::string> hosts_of(Communicator& ranks) {
  HostName mine{};
  ::gethostname(reinterpret_cast<char*>(mine.data()), sizeof mine - 1);
  std::vector<std::int64_t> all(static_cast<std::size_t>(ranks.size()) * mine.size());
  Stream stream;
  ranks.all_gather(view_of(std::span<const std::int64_t>(mine)), view_of(std::span<std::int64_t>(all)), stream)
      .wait(stream);
  std::vector<std::string> names;
  for (std::size_t at = 0; at < all.size(); at += mine.size()) names.emplace_back(reinterpret_cast<char*>(&all[at]));
  return names;
}

// Every thread but the signals' own leaves signals to that.
std::thread start_without_signals(std::function<void()> body) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread(std::move(body));
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return thread;
}

void allow_descriptors(int ranks) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= static_cast<rlim_t>(2 * ranks + 256)) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

// On a thread of its own, as the other end may be a pipe that is full and not read.
void say(const std::string& line) {
  std::promise<ssize_t> said;
  std::future<ssize_t> written = said.get_future();
  std::thread([line, said = std::move(said)]() mutable {
    said.set_value(::write(STDERR_FILENO, line.data(), line.size()));
  }).detach();
  written.wait_for(kGrace - kRecording);
}

struct Peer {
  Line line;
  int rank = -1;      // not told yet
  double since = 0;   // of the first sight
  bool left = false;  // said farewell
};

constexpr std::ptrdiff_t kStrangers = 64;  // lines that have not told a rank yet
constexpr double kStrangerSeconds = 5;

}  // namespace

struct Watchdog::Impl {
  Impl(World& w, std::vector<std::string> hosts)
      : world(w),
        me(w.ranks().rank()),
        size(w.ranks().size()),
        one_host(all_equal(hosts)),
        roll(hosts),
        progress(w.activity()) {
    wake.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!wake) throw Error(ErrorCode::io, "the watchdog has no eventfd");
    try {
      connect(hosts);
    } catch (...) {
      finish();
      throw;
    }
  }
  ~Impl() { finish(); }

  static bool all_equal(const std::vector<std::string>& hosts) {
    return std::ranges::all_of(hosts, [&](const std::string& host) { return host == hosts.front(); });
  }

  void connect(const std::vector<std::string>& hosts);
  void start() {
    thread = start_without_signals([this] { run(); });
    pthread_setname_np(thread.native_handle(), "watchdog");
  }
  void finish();

  // The thread's part.
  void run();
  void wait_for_words();
  void hear();
  void accept();
  void hear(Peer&, const Word&);
  std::ptrdiff_t strangers() const {
    return std::ranges::count_if(peers, [](const Peer& peer) { return peer.rank < 0; });
  }
  void speak();
  std::optional<std::string> judge();
  [[noreturn]] void end(const std::string& cause);
  [[noreturn]] void leave_process(int exit_status, bool first);
  void tell(Word::Kind, int exit_status = 0);
  Ending ending_of(const std::string& cause, bool recorded) const;

  double tick() const {  // between two words; rank 0 can take a thousand a second and more
    const double slowest = std::max(0.25, 1e-3 * size);
    return timeout > 0 ? std::clamp(timeout / 10, 0.05, slowest) : slowest;
  }
  double patience() const { return 4 * tick(); }  // a rank that is silent for longer is not running
  // So that of several ranks that miss rank 0, one tells it before the others come to.
  double turn() const { return std::min(0.25 * std::max(me - 1, 0), 3.0); }

  World& world;
  const int me, size;
  const bool one_host;
  Roll roll;
  std::optional<Port> port;
  std::vector<Peer> peers;
  std::uint64_t token = 0;
  std::string warning;
  Descriptor wake;
  std::thread thread;

  std::atomic<double> timeout{kDefaultTimeout};
  std::atomic<Index> step{0}, step_of_checkpoint{0};
  std::atomic<bool> saves{false}, trains{false};
  std::atomic<bool> all_called{false};  // no line comes any more
  std::atomic<bool> judges{true};       // not where a rank is not heard, for it may be the one that makes progress
  std::atomic<bool> stops{false}, ends{false};
  std::mutex mutex;
  Record record;  // under mutex

  Progress progress;  // of the thread that made this
  RunningClock clock;
  double now = 0, next_word = 0, missed = -1;
  std::vector<pollfd> polled;  // the eventfd, the port, the peers
  bool port_rests = false;     // until the next word, for it had nothing to give
};

void Watchdog::Impl::connect(const std::vector<std::string>& hosts) {
  Communicator& ranks = world.ranks();
  std::array<std::int64_t, 6> contact{};
  static_assert(sizeof(Addresses) == 4 * sizeof(std::int64_t));
  together(ranks, [&] {
    if (me != 0) return;
    allow_descriptors(size);
    port.emplace(!one_host);
    std::random_device random;
    const std::uint64_t high = random(), low = random();
    const Addresses addresses = addresses_of_host();
    std::memcpy(contact.data(), addresses.data(), sizeof addresses);
    contact[4] = port->number();
    contact[5] = static_cast<std::int64_t>(high << 32 | low);
  });
  Stream stream;
  ranks.broadcast(view_of(std::span<std::int64_t>(contact)), 0, stream).wait(stream);
  token = static_cast<std::uint64_t>(contact[5]);
  std::uint64_t cut_off = 0;
  if (me == 0) {
    start();
  } else {
    Addresses addresses{};
    std::memcpy(addresses.data(), contact.data(), sizeof addresses);
    auto answered = call(hosts.front() == hosts[static_cast<std::size_t>(me)] ? loopback_address() : addresses,
                         static_cast<std::uint16_t>(contact[4]), {.token = token, .rank = me});
    if (answered) {
      peers.push_back({std::move(answered->line), 0});
      roll.hear(0, answered->answer.state, now);
    } else {
      cut_off = static_cast<std::uint64_t>(me);
    }
    start();
  }
  cut_off = ranks.agree_max(cut_off);
  judges = cut_off == 0;
  all_called = true;
  if (cut_off > 0 && me == 0)
    warning = "watchdog: " + roll.name(static_cast<int>(cut_off)) + " does not reach " + roll.name(0) + ", TCP port " +
              std::to_string(contact[4]) +
              ": should it die, that is not noticed at once or named, and no rank that hangs ends the job "
              "(train.timeout_seconds)";
}

void Watchdog::Impl::finish() {
  stops = true;
  const std::uint64_t one = 1;
  if (::write(wake.get(), &one, sizeof one) < 0) return;  // full: it is awake
  if (thread.joinable()) thread.join();
}

void Watchdog::Impl::run() {
  while (!stops) {
    wait_for_words();
    now = clock.advance(2 * tick() + 1);
    hear();
    if (now >= next_word) speak();
    if (const auto cause = judge()) end(*cause);
  }
  tell(Word::Kind::farewell);
}

void Watchdog::Impl::wait_for_words() {
  const bool accepts = port && !port_rests && strangers() < kStrangers;
  polled = {{wake.get(), POLLIN, 0}, {accepts ? port->descriptor() : -1, POLLIN, 0}};  // -1: poll passes it over
  for (const Peer& peer : peers) polled.push_back({peer.line.descriptor(), POLLIN, 0});
  ::poll(polled.data(), polled.size(), static_cast<int>(1000 * std::max(next_word - now, 0.0)) + 1);
}

void Watchdog::Impl::hear() {
  for (std::size_t i = 0; i < peers.size(); ++i) {
    if (polled[2 + i].revents == 0) continue;
    for (const Word& word : peers[i].line.receive(token)) hear(peers[i], word);
  }
  std::erase_if(peers, [&](const Peer& peer) {
    if (peer.line.closed() && peer.rank >= 0 && !peer.left) roll.lose(peer.rank, now);
    const bool unwanted = peer.rank < 0 && (now - peer.since >= kStrangerSeconds || all_called);
    return peer.line.broken() || unwanted;
  });
  if (port) accept();
}

// Whoever was answered has been heard by now, so that what else waits is nobody's.
void Watchdog::Impl::accept() {
  if (all_called) return port.reset();
  if (polled[1].revents == 0) return;
  port_rests = true;  // where there is no descriptor left, say, it would wake this thread again and again
  while (strangers() < kStrangers) {
    auto line = port->accept();
    if (!line) break;
    peers.push_back({.line = std::move(*line), .since = now});
    port_rests = false;
  }
}

void Watchdog::Impl::hear(Peer& peer, const Word& word) {
  if (word.rank < 0 || word.rank >= size) return;
  const bool is_new = peer.rank < 0;
  peer.rank = word.rank;
  if (word.kind == Word::Kind::end) leave_process(word.exit_status, false);
  if (word.kind == Word::Kind::farewell) {
    // Of a line that its rank gave up, it does not concern the one that came after.
    peer.left = true;
    if (std::ranges::none_of(peers, [&](const Peer& other) { return other.rank == peer.rank && !other.left; }))
      roll.leave(word.rank);
    return;
  }
  roll.hear(word.rank, word.state, now);
  if (is_new) peer.line.send({.token = token, .rank = me, .state = roll.state(me)});
}

void Watchdog::Impl::speak() {
  next_word = now + tick();
  port_rests = false;
  roll.hear(me, progress.at(now, step), now);
  tell(Word::Kind::beat);
}

void Watchdog::Impl::tell(Word::Kind kind, int exit_status) {
  for (Peer& peer : peers)
    if (peer.rank >= 0)
      peer.line.send({.token = token, .kind = kind, .rank = me, .exit_status = exit_status, .state = roll.state(me)});
}

std::optional<std::string> Watchdog::Impl::judge() {
  if (const auto cause = roll.lost(now)) {
    if (missed < 0) missed = now;
    if (now - missed >= turn()) return cause;
  }
  if (timeout == 0 || !judges) return std::nullopt;
  if (me == 0) return roll.stuck(now, timeout, patience());
  // A rank that hears rank 0 leaves the judgement to it. Where a link is cut both sides judge: rank 0, beside which the
  // launcher often sits, comes first, so that its line is seen.
  const RankState& mine = roll.state(me);
  const bool misses =
      roll.present(0) && mine.waits && mine.idle >= timeout && roll.silence(0, now) >= timeout + 1 + turn();
  return misses ? std::optional(roll.missed(0, now, timeout)) : std::nullopt;
}

Ending Watchdog::Impl::ending_of(const std::string& cause, bool recorded) const {
  if (stop_signal() == Stop::interrupt) return {128 + SIGINT, cause + "; interrupted", false};
  // A node or a network that failed is worth another try, but only where that begins further on than this one did: else
  // the same may happen again and again without anybody looking. A launcher may have sent SIGTERM by now: that says
  // nothing.
  const Index newest = step_of_checkpoint;
  const std::string checkpoint = " its checkpoint of step " + std::to_string(newest);
  if (saves) return {static_cast<int>(ErrorCode::requeue), cause + "; the run can go on from" + checkpoint, true};
  std::string lack;
  if (newest > 0)
    lack = "; no checkpoint was saved since the run went on from" + checkpoint;
  else if (recorded && trains)
    lack = "; the run has no checkpoint yet";
  return {static_cast<int>(ErrorCode::io), cause + lack, false};
}

void Watchdog::Impl::end(const std::string& cause) {
  ends = true;
  Record tells;
  {
    const std::lock_guard lock(mutex);
    tells = record;
  }
  const Ending ending = ending_of(cause, static_cast<bool>(tells));
  tell(Word::Kind::end, ending.exit_status);  // they wait for kGrace
  std::promise<bool> told;
  std::future<bool> first = told.get_future();
  std::thread([ending, tells, told = std::move(told)]() mutable {
    bool is_first = true;
    try {
      if (tells) is_first = tells(ending);
    } catch (const std::exception&) {
      // The line on standard error stands.
    }
    told.set_value(is_first);
  }).detach();
  if (first.wait_for(kRecording) != std::future_status::ready || first.get()) say("plasmid: " + ending.reason + "\n");
  leave_process(ending.exit_status, true);
}

void Watchdog::Impl::leave_process(int exit_status, bool first) {
  ends = true;
  // The launcher ends all when the first aborts; without one that does, the others follow.
  if (!first) std::this_thread::sleep_for(kGrace);
  world.activity().ask_to_end(exit_status);
  std::this_thread::sleep_for(kGrace);
  ::_exit(exit_status);
}

Watchdog::Watchdog(World& world) {
  if (world.ranks().size() > 1) impl_ = std::make_unique<Impl>(world, hosts_of(world.ranks()));
}

Watchdog::~Watchdog() = default;

void Watchdog::set_timeout(double seconds) {
  if (impl_) impl_->timeout = seconds > 0 ? std::max(seconds, 1.0) : 0;
}

void Watchdog::set_record(Record record) {
  if (!impl_) return;
  const std::lock_guard lock(impl_->mutex);
  impl_->record = std::move(record);
}

void Watchdog::begin_step(Index step) {
  if (!impl_) return;
  impl_->step = step;
  impl_->trains = true;
}

void Watchdog::went_on_from(Index step) {
  if (impl_) impl_->step_of_checkpoint = step;
}

void Watchdog::saved(Index step) {
  if (!impl_) return;
  impl_->step_of_checkpoint = step;
  impl_->saves = true;
}

void Watchdog::leave(int failure) {
  if (!impl_) return;
  if (failure == static_cast<int>(ErrorCode::io)) std::this_thread::sleep_for(1s);
  while (impl_->ends) {
    if (const int status = impl_->world.activity().end_asked()) impl_->world.abort(status);
    std::this_thread::sleep_for(10ms);
  }
  impl_->finish();
}

const std::string& Watchdog::warning() const {
  static const std::string none;
  return impl_ ? impl_->warning : none;
}

}  // namespace plasmid
