#include "launcher/bench/peak_resident.hpp"

#include <malloc.h>

#include <fstream>
#include <string>

#include "runtime/telemetry/step_record.hpp"

namespace plasmid::bench {

PeakResident::PeakResident() {
  ::malloc_trim(0);
  std::ofstream("/proc/self/clear_refs") << "5";  // proc(5): the peak starts from what is resident now
  before_ = resident_bytes();
}

Index PeakResident::bytes() const {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;)
    if (Index kilobytes = 0; word == "VmHWM:" && status >> kilobytes) return kilobytes * 1024;
  return 0;
}

}  // namespace plasmid::bench
