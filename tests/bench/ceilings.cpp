#include "tests/bench/ceilings.hpp"

#include <dnnl.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <vector>

#include "runtime/base/check.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/bench/ceilings.cpp"
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

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<long>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

double one_fma_run() {
  float result = 0;
  const double start = thread_cpu_seconds();
  const double flops = HWY_DYNAMIC_DISPATCH(fma_chain)(1'000'000, &result);
  const double seconds = thread_cpu_seconds() - start;
  PLASMID_CHECK(result == 10.0f) << "each chain of the FMA loop converges to 1, their sum is " << result;
  return flops / seconds;
}

double one_triad_run() {
  constexpr std::size_t n = 1 << 24;
  static std::vector<float> a(n), b(n, 1.0f), c(n, 2.0f);
  const double start = thread_cpu_seconds();
  HWY_DYNAMIC_DISPATCH(triad)(b.data(), c.data(), n, a.data());
  const double seconds = thread_cpu_seconds() - start;
  PLASMID_CHECK(a[n / 3] == 7.0f);
  return 3.0 * n * sizeof(float) / seconds;
}

void report(const std::string& name, double amount, const char* unit, double (*ceiling)(), const char* ceiling_name,
            const std::function<void()>& work, int runs) {
  work();
  std::vector<double> seconds, ceilings;
  for (int run = 0; run < runs; ++run) {
    ceilings.push_back(ceiling());
    const double start = thread_cpu_seconds();
    work();
    seconds.push_back(thread_cpu_seconds() - start);
  }
  const double rate = amount / median(seconds), top = median(ceilings);
  std::printf("%-44s %9.3f ms  %7.1f %s  %5.3f of the %s's %.1f\n", name.c_str(), median(seconds) * 1e3, rate * 1e-9,
              unit, rate / top, ceiling_name, top * 1e-9);
  std::fflush(stdout);
}

}  // namespace

double thread_cpu_seconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

double median_seconds(int runs, const std::function<void()>& work) {
  work();
  std::vector<double> seconds;
  for (int run = 0; run < runs; ++run) {
    const double start = thread_cpu_seconds();
    work();
    seconds.push_back(thread_cpu_seconds() - start);
  }
  return median(seconds);
}

double fma_gflops() {
  std::vector<double> rates;
  for (int run = 0; run < 7; ++run) rates.push_back(one_fma_run());
  return median(rates) * 1e-9;
}

double sgemm_gflops(int n) {
  const auto size = static_cast<std::size_t>(n) * static_cast<std::size_t>(n);
  std::vector<float> a(size, 1.0f), b(size, 0.5f), c(size);
  const double seconds = median_seconds(7, [&] {
    const dnnl_status_t status = dnnl_sgemm('N', 'N', n, n, n, 1, a.data(), n, b.data(), n, 0, c.data(), n);
    PLASMID_CHECK(status == dnnl_success && c[size / 2] == 0.5f * static_cast<float>(n));
  });
  return 2.0 * static_cast<double>(size) * n / seconds * 1e-9;
}

double triad_gbytes() {
  std::vector<double> rates;
  for (int run = 0; run < 7; ++run) rates.push_back(one_triad_run());
  return median(rates) * 1e-9;
}

void report_flops(const std::string& name, double flops, const std::function<void()>& work, int runs) {
  report(name, flops, "GFLOP/s", one_fma_run, "FMA loop", work, runs);
}

void report_bytes(const std::string& name, double bytes, const std::function<void()>& work, int runs) {
  report(name, bytes, "GB/s", one_triad_run, "triad", work, runs);
}

}  // namespace plasmid::bench
#endif
