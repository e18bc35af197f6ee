#pragma once
#include <cstdint>
#include <span>

#include "runtime/base/index.hpp"

namespace plasmid::detail {

// The sorted order of one head's tokens in one round, by (document, bucket, position).
//   buckets         of each token
//   document_begin  [documents + 1], from 0 to the number of tokens
//   order           the token at each place
//   counts          scratch, one word a bucket
// O(tokens): long documents by counting, short ones (against the number of buckets) by comparing.
void sort_by_bucket(std::span<const std::uint16_t> buckets, std::span<const Index> document_begin,
                    std::span<std::int32_t> order, std::span<std::int32_t> counts);

}  // namespace plasmid::detail
