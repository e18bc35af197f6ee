#pragma once
#include <string>

#include "runtime/base/index.hpp"

namespace plasmid {

// One training step as metrics.jsonl has it. Scripts of users read these names.
struct StepRecord {
  Index step = 0;        // from 1
  Index tokens = 0;      // since the run's start
  double loss = 0;       // nats per counted token
  double grad_norm = 0;  // before clipping
  double learning_rate = 0;
  double step_seconds = 0;  // wall time from one step's end to the next, data included
  double tokens_per_second = 0;
  Index peak_bytes = 0;      // ledger, largest rank
  Index resident_bytes = 0;  // largest rank
};

struct EvaluationRecord {
  Index step = 0, tokens = 0;  // of the weights
  double held_out_loss = 0;    // nats per label
  double held_out_bits = 0;    // the same in bits
  Index held_out_labels = 0;   // that it is the mean of
  double seconds = 0;
  // Where tokens differ in length (BPE): bits of all labels by the bytes that they stand for. 0: left out.
  double held_out_bits_per_byte = 0;
};

// One line, fields in the order above; numbers in the shortest form that reads back equal, null where not finite.
std::string to_json(const StepRecord&);
std::string to_json(const EvaluationRecord&);

// What this process holds in memory now (/proc/self/statm); 0 where the system does not say.
Index resident_bytes();

}  // namespace plasmid
