#include "launcher/bench/replay.hpp"

#include <charconv>
#include <chrono>
#include <cmath>
#include <thread>
#include <utility>

#include "runtime/base/error.hpp"

namespace plasmid::bench {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kPiece = std::chrono::microseconds(100);

class ReplayKernel final : public AttentionKernel {
 public:
  ReplayKernel(const ReplayTimes& times, std::unique_ptr<AttentionKernel> inner)
      : times_(times), inner_(std::move(inner)) {}

  void forward(const Attend& call, View, View, Arena&) override { wait(call, times_.forward); }
  void backward(const Attend& call, ConstView, ConstView, ConstView, View, View, View, Arena&) override {
    wait(call, times_.backward);
  }
  Index scratch_bytes(Index queries, Index keys, Index heads, Index kv_heads, Index d) const override {
    return inner_->scratch_bytes(queries, keys, heads, kv_heads, d);
  }

 private:
  static void wait(const Attend& call, double pair_seconds) {
    const Clock::time_point begin = Clock::now();  // the counting is within the time
    const double seconds = pair_seconds * static_cast<double>(call.mask.pairs() * call.q.dim(1));
    const auto end = begin + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
    for (auto now = begin; now < end; now = Clock::now()) {
      if (call.poll) call.poll();
      std::this_thread::sleep_until(std::min<Clock::time_point>(end, Clock::now() + kPiece));
    }
  }

  ReplayTimes times_;
  std::unique_ptr<AttentionKernel> inner_;
};

double seconds_of(const std::string& whole, const char* begin, const char* end) {
  double value = 0;
  const auto [rest, error] = std::from_chars(begin, end, value);
  if (error != std::errc() || rest != end || !(value >= 0 && value <= 1))
    throw Error(ErrorCode::usage,
                "--replay: '" + whole + "' is not FORWARD,BACKWARD in seconds of a pair, from 0 to 1");
  return value;
}

}  // namespace

ReplayTimes parse_replay(const std::string& text) {
  const auto comma = std::min(text.find(','), text.size());
  const char* const data = text.data();
  const char* const end = data + text.size();
  const char* const second = comma < text.size() ? data + comma + 1 : end;
  return {seconds_of(text, data, data + comma), seconds_of(text, second, end)};
}

std::unique_ptr<AttentionKernel> make_replay_kernel(const ReplayTimes& times, std::unique_ptr<AttentionKernel> inner) {
  return std::make_unique<ReplayKernel>(times, std::move(inner));
}

}  // namespace plasmid::bench
