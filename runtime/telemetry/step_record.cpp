#include "runtime/telemetry/step_record.hpp"

#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>

namespace plasmid {

using Object = nlohmann::ordered_json;

std::string to_json(const StepRecord& record) {
  return Object{{"step", record.step},
                {"tokens", record.tokens},
                {"loss", record.loss},
                {"grad_norm", record.grad_norm},
                {"learning_rate", record.learning_rate},
                {"step_seconds", record.step_seconds},
                {"tokens_per_second", record.tokens_per_second},
                {"peak_bytes", record.peak_bytes},
                {"resident_bytes", record.resident_bytes}}
      .dump();
}

std::string to_json(const EvaluationRecord& record) {
  Object object{{"step", record.step},
                {"tokens", record.tokens},
                {"held_out_loss", record.held_out_loss},
                {"held_out_bits", record.held_out_bits},
                {"held_out_labels", record.held_out_labels},
                {"seconds", record.seconds}};
  if (record.held_out_bits_per_byte > 0) object["held_out_bits_per_byte"] = record.held_out_bits_per_byte;
  return object.dump();
}

Index resident_bytes() {
  std::ifstream file("/proc/self/statm");
  Index pages = 0, resident = 0;
  return file >> pages >> resident ? resident * ::sysconf(_SC_PAGESIZE) : 0;
}

}  // namespace plasmid
