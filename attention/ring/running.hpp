#pragma once
#include "attention/kernel/kernel.hpp"

namespace plasmid::detail {

// The sums of one turn of the ring. Each hop's part is formed on its own and merged here, with lse in f64: lse enters
// the exponent of every gradient, and in f32 its rounding would grow with the number of hops.
class RunningSums {
 public:
  // out [queries, heads, d], lse [queries, heads], f32; both are started.
  RunningSums(View out, View lse, Arena& scratch);

  struct Part {
    View out, lse;
  };
  Part part();   // where the next hop with work writes; the results themselves the first time
  void merge();  // that hop's part

 private:
  View out_, lse_;
  Arena& scratch_;
  bool first_ = true;
  Buffer part_out_, part_lse_;
  Buffer exact_lse_;  // f64
};

}  // namespace plasmid::detail
