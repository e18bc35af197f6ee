#include "attention/lsh/order.hpp"

#include <algorithm>
#include <numeric>

#include "runtime/base/check.hpp"

namespace plasmid::detail {

void sort_by_bucket(std::span<const std::uint16_t> buckets, std::span<const Index> document_begin,
                    std::span<std::int32_t> order, std::span<std::int32_t> counts) {
  PLASMID_CHECK(buckets.size() == order.size() && order.size() < std::size_t{1} << 31)
      << buckets.size() << " buckets, " << order.size() << " places";
  for (std::size_t i = 0; i + 1 < document_begin.size(); ++i) {
    const auto begin = static_cast<std::int32_t>(document_begin[i]),
               end = static_cast<std::int32_t>(document_begin[i + 1]);
    const std::span<std::int32_t> places =
        order.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
    if (places.size() < counts.size() / 8) {
      std::iota(places.begin(), places.end(), begin);
      std::ranges::sort(places, {}, [&](std::int32_t token) {
        return std::uint64_t{buckets[static_cast<std::size_t>(token)]} << 32 | static_cast<std::uint32_t>(token);
      });
      continue;
    }
    std::ranges::fill(counts, 0);
    for (std::int32_t t = begin; t < end; ++t) ++counts[buckets[static_cast<std::size_t>(t)]];
    std::exclusive_scan(counts.begin(), counts.end(), counts.begin(), 0);
    for (std::int32_t t = begin; t < end; ++t)
      places[static_cast<std::size_t>(counts[buckets[static_cast<std::size_t>(t)]]++)] = t;
  }
}

}  // namespace plasmid::detail
