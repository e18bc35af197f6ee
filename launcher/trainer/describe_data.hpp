#pragma once
#include <string>
#include <vector>

#include "runtime/base/index.hpp"

namespace plasmid {

struct DataOptions {
  std::vector<std::string> files;
  Index length = 0;                    // of windows; 0: none are asked for
  std::vector<std::string> overrides;  // "data.b=c": a job's data fields
};

// Prints what a job would find in these files: records, tokens and how often each occurs, what was left out, windows
// and their padding. Reads all tokens. Throws Error as training would.
void describe_data(const DataOptions&);

}  // namespace plasmid
