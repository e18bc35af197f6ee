#pragma once
#include <functional>
#include <string>

// What one core of this machine does right now. Every figure is a median over short runs in thread CPU time, so that a
// busy machine takes little from it; measure the ceiling in the same run as what is compared with it.
namespace plasmid::bench {

double fma_gflops();         // register-only fused multiply-adds (multiply + add below AVX2), widest SIMD in use
double sgemm_gflops(int n);  // oneDNN, n x n x n
double triad_gbytes();       // a = b + s c over arrays far beyond the caches; three streams counted

double thread_cpu_seconds();  // of the calling thread

// The median of `runs` thread CPU times of `work`, after one call to warm up.
double median_seconds(int runs, const std::function<void()>& work);

// One line: name, median, rate, and the rate as a fraction of the FMA loop, which is measured before and after `work`
// (alternating `runs` times). `work` must run on the calling thread alone.
void report_flops(const std::string& name, double flops, const std::function<void()>& work, int runs = 7);
// The same in bytes, against the triad.
void report_bytes(const std::string& name, double bytes, const std::function<void()>& work, int runs = 7);

}  // namespace plasmid::bench
