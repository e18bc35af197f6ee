#include "launcher/planner/network.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

#include "runtime/base/check.hpp"

namespace plasmid {

double all_reduce_seconds(double bytes, int ranks, double bucket_bytes, const Network& network) {
  PLASMID_CHECK(ranks >= 1 && bucket_bytes > 0) << ranks << " ranks, buckets of " << bucket_bytes;
  if (ranks == 1 || bytes <= 0) return 0;
  const Link& link = network.slowest(ranks);
  const double turns = std::ceil(std::ceil(bytes / bucket_bytes) / 2);
  if (ranks < 4) {
    const double levels = std::bit_width(static_cast<unsigned>(ranks - 1));
    return 2 * levels * (bytes / link.bytes_per_second + turns * link.latency);
  }
  const double steps = 2.0 * (ranks - 1);
  return steps * (bytes / ranks / link.bytes_per_second + turns * link.latency);
}

}  // namespace plasmid
