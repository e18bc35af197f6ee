#include "runtime/ops/rope.hpp"

namespace plasmid::ops {

void rope(View x, ConstView position, double base, bool inverse, Stream&) { ref::rope(x, position, base, inverse); }

}  // namespace plasmid::ops
