#include "tests/support/token_line.hpp"

namespace plasmid::test {
namespace {

std::vector<std::uint8_t> valid(Index n, Index begin, Index end) {  // only [begin, end)
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(n), 0);
  for (Index i = begin; i < end; ++i) bytes[static_cast<std::size_t>(i)] = 1;
  return bytes;
}

}  // namespace

TokenLine TokenLine::split(int holders, Layout layout) const {
  TokenLine line = *this;
  line.shards = make_shards(samples, length, holders, layout);
  if (line.document_begin.empty())
    for (Index sample = 0; sample <= samples; ++sample) line.document_begin.push_back(sample * length);
  return line;
}

TokenMap TokenLine::map(int shard) const {
  TokenMap map;
  map.shards = shards;
  map.shard = shard;
  map.document_begin = document_begin;
  map.key_valid = key_valid;
  return map;
}

std::vector<TokenLine> token_lines() {
  const Pattern causal = Pattern::causal(), full = Pattern::full();
  std::vector<std::uint8_t> scattered = valid(83, 0, 83);
  for (std::size_t i = 0; i < scattered.size(); i += 3) scattered[i] = 0;
  return {
      {"causal", 1, 96, causal, {}, {}, {}},
      {"full", 1, 96, full, {}, {}, {}},
      {"causal_odd", 1, 101, causal, {}, {}, {}},
      {"full_odd", 1, 77, full, {}, {}, {}},
      {"samples", 3, 37, causal, {}, {}, {}},
      {"window_back", 1, 120, {11, 0}, {}, {}, {}},
      {"window_both", 2, 61, {6, 9}, {}, {}, {}},
      {"strictly_before", 1, 50, {20, -1}, {}, {}, {}},
      {"documents", 1, 90, causal, {0, 1, 4, 30, 31, 77, 90}, {}, {}},
      {"documents_full", 2, 40, full, {0, 5, 40, 66, 80}, {}, {}},
      {"right_padding", 2, 48, causal, {}, valid(96, 0, 70), {}},
      {"left_padding", 1, 64, causal, {}, valid(64, 29, 64), {}},
      {"scattered_padding", 1, 83, full, {}, scattered, {}},
      {"nothing_valid", 1, 40, causal, {}, valid(40, 0, 0), {}},
      {"shorter_than_ranks", 1, 3, causal, {}, {}, {}},
      {"single_token", 1, 1, full, {}, {}, {}},
      {"many_tiny_samples", 9, 2, causal, {}, {}, {}},
  };
}

}  // namespace plasmid::test
