#include "runtime/device/simd.hpp"

#include <dnnl.h>
#include <hwy/targets.h>

#include <algorithm>
#include <atomic>

namespace plasmid {
namespace {

struct Level {
  Simd simd;
  std::int64_t needs;       // Highway's targets of exactly this level
  dnnl_cpu_isa_t dnnl_isa;  // oneDNN has nothing below SSE4.1
  const char* name;
};
// Narrowest first. Highway's target of a wider instruction set is a lower bit.
constexpr Level kLevels[] = {
    {Simd::baseline, 0, dnnl_cpu_isa_sse41, "baseline"},
#if HWY_ARCH_X86
    {Simd::sse4, HWY_SSE4, dnnl_cpu_isa_sse41, "SSE4"},
    {Simd::avx2, HWY_AVX2, dnnl_cpu_isa_avx2, "AVX2"},
    {Simd::avx512, HWY_AVX3, dnnl_cpu_isa_avx512_core, "AVX-512"},
#endif
};

Simd widest_of(std::int64_t targets) {
  Simd widest = Simd::baseline;
  for (const Level& level : kLevels)
    if (targets & level.needs) widest = level.simd;
  return widest;
}

// Highway 1.0.3's SupportedTargets() lets kernels have every target again, so it is asked before a limit and by nobody
// after one; what is in use is remembered here.
std::atomic<Simd>& in_use() {
  static std::atomic<Simd> simd = widest_simd();
  return simd;
}

}  // namespace

Simd widest_simd() {
  static const Simd widest = widest_of(hwy::SupportedTargets());
  return widest;
}

void limit_simd(Simd limit) {
  in_use() = std::min(limit, widest_simd());
  std::int64_t disabled = 0;
  for (const Level& level : kLevels) {
    if (level.simd > limit) disabled |= level.needs;
    if (level.simd == limit) dnnl_set_max_cpu_isa(level.dnnl_isa);  // refused once a product was made: then it stays
  }
  hwy::DisableTargets(disabled);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());  // or kernels already called keep to their choice
}

Simd simd_in_use() { return in_use(); }

std::string name_of(Simd simd) {
  for (const Level& level : kLevels)
    if (level.simd == simd) return level.name;
  return "unknown";
}

}  // namespace plasmid
