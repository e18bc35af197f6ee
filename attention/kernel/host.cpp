#include "attention/kernel/kernel.hpp"

namespace plasmid {

std::unique_ptr<AttentionKernel> make_host_kernel() { return make_reference_kernel(); }

}  // namespace plasmid
