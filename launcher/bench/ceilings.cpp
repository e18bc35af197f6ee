#include "launcher/bench/ceilings.hpp"

#include <dnnl.h>
#include <omp.h>

#include <algorithm>
#include <array>
#include <memory>
#include <vector>

#include "runtime/base/check.hpp"
#include "runtime/device/parallel_for.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "launcher/bench/ceilings.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace plasmid::bench {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Ten independent chains cover latency 4 at two a cycle. Each converges to 1, so the result can be checked. The
// return value is the number of floating-point operations done.
double fma_chain(long turns, float* result) {
  const hn::ScalableTag<float> d;
  const auto half = hn::Set(d, 0.5f);
  // Different beginnings, or the compiler would see that one chain is enough.
  auto a = hn::Set(d, 0.0f), b = hn::Set(d, 2.0f), c = hn::Set(d, 3.0f), e = hn::Set(d, 4.0f), f = hn::Set(d, 5.0f);
  auto g = hn::Set(d, 6.0f), h = hn::Set(d, 7.0f), i = hn::Set(d, 8.0f), j = hn::Set(d, 9.0f), k = hn::Set(d, 10.0f);
  for (long turn = 0; turn < turns; ++turn) {
    a = hn::MulAdd(a, half, half), b = hn::MulAdd(b, half, half), c = hn::MulAdd(c, half, half);
    e = hn::MulAdd(e, half, half), f = hn::MulAdd(f, half, half), g = hn::MulAdd(g, half, half);
    h = hn::MulAdd(h, half, half), i = hn::MulAdd(i, half, half), j = hn::MulAdd(j, half, half);
    k = hn::MulAdd(k, half, half);
  }
  const auto sum = hn::Add(hn::Add(hn::Add(a, b), hn::Add(c, e)), hn::Add(hn::Add(f, g), hn::Add(h, i)));
  *result = hn::GetLane(hn::Add(sum, hn::Add(j, k)));
  return 2.0 * 10 * static_cast<double>(hn::Lanes(d)) * static_cast<double>(turns);
}

void triad(const float* b, const float* c, std::size_t n, float* a) {
  const hn::ScalableTag<float> d;
  const auto s = hn::Set(d, 3.0f);
  for (std::size_t i = 0; i + hn::Lanes(d) <= n; i += hn::Lanes(d))
    hn::StoreU(hn::MulAdd(s, hn::LoadU(d, c + i), hn::LoadU(d, b + i)), d, a + i);
}

}  // namespace HWY_NAMESPACE
}  // namespace plasmid::bench
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace plasmid::bench {
namespace {

HWY_EXPORT(fma_chain);
HWY_EXPORT(triad);

constexpr std::size_t kTriadLength = std::size_t{1} << 24;
constexpr int kRuns = 7;

double seconds_of(int threads, const Work& work) {
  const Times times = time_of(work);
  return clock_for(threads) == Clock::wall ? times.wall : times.thread;
}

class TeamOf {  // oneDNN takes the present team
 public:
  explicit TeamOf(int threads) : before_(omp_get_max_threads()) { omp_set_num_threads(threads); }
  ~TeamOf() { omp_set_num_threads(before_); }
  TeamOf(const TeamOf&) = delete;
  TeamOf& operator=(const TeamOf&) = delete;

 private:
  int before_;
};

Range part_of(Index thread, Index team, Index n) { return {n * thread / team, n * (thread + 1) / team}; }

double median_of(const std::function<double()>& rate) {
  rate();
  std::vector<double> rates;
  for (int run = 0; run < kRuns; ++run) rates.push_back(rate());
  return spread_of(rates).median;
}

}  // namespace

double fma_rate(int threads) {
  constexpr long kTurns = 1'000'000;
  std::vector<float> results(static_cast<std::size_t>(threads));
  std::vector<double> flops(results.size());
  const double seconds = seconds_of(threads, [&] {
    parallel_team(threads, [&](Index thread, Index) {
      const auto i = static_cast<std::size_t>(thread);
      flops[i] = HWY_DYNAMIC_DISPATCH(fma_chain)(kTurns, &results[i]);
    });
  });
  double total = 0;
  for (std::size_t i = 0; i < flops.size(); ++i) {
    PLASMID_CHECK(flops[i] == 0 || results[i] == 10.0f)
        << "each chain of the FMA loop converges to 1, their sum is " << results[i];
    total += flops[i];
  }
  return total / seconds;
}

double sgemm_rate(int threads, int n) {
  const TeamOf team(threads);
  const auto size = static_cast<std::size_t>(n) * static_cast<std::size_t>(n);
  std::vector<float> a(size, 1.0f), b(size, 0.5f), c(size);
  dnnl_status_t status = dnnl_success;
  const double seconds =
      seconds_of(threads, [&] { status = dnnl_sgemm('N', 'N', n, n, n, 1, a.data(), n, b.data(), n, 0, c.data(), n); });
  PLASMID_CHECK(status == dnnl_success && c[size / 2] == 0.5f * static_cast<float>(n)) << "sgemm of ones and halves";
  return 2.0 * static_cast<double>(size) * n / seconds;
}

Triad::Triad(int threads)
    : threads_(threads),
      a_(std::make_unique_for_overwrite<float[]>(kTriadLength)),
      b_(std::make_unique_for_overwrite<float[]>(kTriadLength)),
      c_(std::make_unique_for_overwrite<float[]>(kTriadLength)) {
  parallel_team(threads, [&](Index thread, Index team) {
    const Range part = part_of(thread, team, kTriadLength);
    std::fill(&a_[static_cast<std::size_t>(part.begin)], a_.get() + part.end, 0.0f);
    std::fill(&b_[static_cast<std::size_t>(part.begin)], b_.get() + part.end, 1.0f);
    std::fill(&c_[static_cast<std::size_t>(part.begin)], c_.get() + part.end, 2.0f);
  });
}

double Triad::rate() {
  const double seconds = seconds_of(threads_, [&] {
    parallel_team(threads_, [&](Index thread, Index team) {
      const Range part = part_of(thread, team, kTriadLength);
      HWY_DYNAMIC_DISPATCH(triad)
      (b_.get() + part.begin, c_.get() + part.begin, static_cast<std::size_t>(part.size()), a_.get() + part.begin);
    });
  });
  PLASMID_CHECK(a_[kTriadLength / 3] == 7.0f) << "1 + 3 x 2 came out as " << a_[kTriadLength / 3];
  return 3.0 * kTriadLength * sizeof(float) / seconds;
}

Ceilings measure_ceilings(int threads, Communicator* ranks) {
  const auto together = [&] {
    if (ranks) ranks->barrier();
  };
  Ceilings mine;
  together();
  mine.fma = median_of([&] { return fma_rate(threads); });
  together();
  mine.sgemm = median_of([&] { return sgemm_rate(threads); });
  Triad triad(threads);
  together();
  mine.triad = median_of([&] { return triad.rate(); });
  if (!ranks) return mine;
  std::array<double, 3> negative = {-mine.fma, -mine.sgemm, -mine.triad};  // the largest is the slowest
  Stream stream;
  ranks->all_reduce(view_of(std::span<double>(negative)), Reduce::max, stream).wait(stream);
  return {-negative[0], -negative[1], -negative[2]};
}

Series ring_shift(Communicator& ranks, Index bytes, int times) {
  const Index floats = ceil_div(bytes, static_cast<Index>(sizeof(float)));
  std::vector<float> out(static_cast<std::size_t>(floats), static_cast<float>(ranks.rank())), in(out.size(), -1.0f);
  const int size = ranks.size(), before = (ranks.rank() + size - 1) % size;
  if (size == 1) return {std::vector<Times>(static_cast<std::size_t>(times))};
  Stream stream;
  const Series series = repeat(
      times,
      [&] {
        const Transfer transfer{view_of(std::span<const float>(out)), (ranks.rank() + 1) % size,
                                view_of(std::span<float>(in)), before};
        ranks.exchange({&transfer, 1}, stream).wait(stream);
      },
      &ranks);
  PLASMID_CHECK(std::ranges::count(in, static_cast<float>(before)) == std::ssize(in))
      << "what came is not what rank " << before << " sent";
  return series;
}

}  // namespace plasmid::bench
#endif
