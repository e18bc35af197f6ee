#pragma once
#include "runtime/base/index.hpp"

namespace plasmid::bench {

// The most memory that this process has held at once since this was made, as the system counts it: free memory that the
// C library keeps is given back first. Where the system does not let the mark be set back, the most of all time. One at
// a time.
class PeakResident {
 public:
  PeakResident();
  Index before() const { return before_; }  // resident when it was made
  Index bytes() const;

 private:
  Index before_ = 0;
};

}  // namespace plasmid::bench
