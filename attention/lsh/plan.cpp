#include "attention/lsh/plan.hpp"

#include <algorithm>
#include <string>

#include "runtime/base/check.hpp"
#include "runtime/base/error.hpp"

namespace plasmid {
namespace {

struct Segment {  // of the line: one holder's, of one document
  Range tokens;
  Index holder, document;
};

// All holders' ranges, cut at the documents' borders, in line order.
std::vector<Segment> cut_at_documents(const TokenMap& map, std::span<const Index> documents) {
  std::vector<Segment> ranges, segments;
  for (std::size_t holder = 0; holder < map.shards.size(); ++holder)
    for (const Range range : map.shards[holder])
      if (range.size() > 0) ranges.push_back({range, static_cast<Index>(holder), 0});
  std::ranges::sort(ranges, {}, [](const Segment& range) { return range.tokens.begin; });
  Index document = 0;
  const auto end_of = [&](Index i) { return documents[static_cast<std::size_t>(i + 1)]; };
  for (const Segment& range : ranges)
    for (Index begin = range.tokens.begin; begin < range.tokens.end;) {
      while (end_of(document) <= begin) ++document;
      const Index end = std::min(range.tokens.end, end_of(document));
      segments.push_back({{begin, end}, range.holder, document});
      begin = end;
    }
  return segments;
}

void check_map(const TokenMap& map, int rank, int ranks) {
  PLASMID_CHECK(std::ssize(map.shards) == ranks && map.shard == rank)
      << "a map of " << map.shards.size() << " shards on rank " << rank << " of " << ranks;
  if (map.total() >= Index{1} << 31)
    throw Error(ErrorCode::config, "LSH attention over " + std::to_string(map.total()) +
                                       " tokens in one batch: it numbers them with 31 bits");
}

std::vector<Index> documents_of(const TokenMap& map) {
  std::vector<Index> documents(map.document_begin.begin(), map.document_begin.end());
  if (documents.empty()) documents.push_back(0);
  if (map.key_valid.empty()) return documents;
  std::vector<Index> borders(1, 0);
  for (std::size_t i = 0; i + 1 < documents.size(); ++i) {
    const auto begin = map.key_valid.begin() + documents[i], end = map.key_valid.begin() + documents[i + 1];
    const auto padding = std::find(begin, end, 0);
    if (std::any_of(padding, end, [](std::uint8_t valid) { return valid != 0; }))
      throw Error(ErrorCode::config,
                  "LSH attention over padding that tokens follow: pack documents end to end instead");
    if (padding != begin && padding != end) borders.push_back(padding - map.key_valid.begin());
    borders.push_back(documents[i + 1]);
  }
  return borders;
}

}  // namespace

LshPlan plan_lsh(const TokenMap& map, int rank, int ranks, Index chunk) {
  check_map(map, rank, ranks);
  LshPlan plan;
  plan.map = &map, plan.rank = rank, plan.ranks = ranks;
  plan.documents = documents_of(map);
  plan.chunks = cut_chunks(plan.documents, chunk);
  plan.first_chunk.push_back(0);
  for (std::size_t i = 0; i + 1 < plan.documents.size(); ++i)
    plan.first_chunk.push_back(plan.first_chunk.back() + ceil_div(plan.documents[i + 1] - plan.documents[i], chunk));
  for (Index r = 0; r <= ranks; ++r) {
    const Index share = map.total() * r / ranks;
    plan.rank_chunks.push_back(
        std::ranges::lower_bound(plan.chunks, share, {}, [](const LshChunk& c) { return c.places.begin; }) -
        plan.chunks.begin());
  }
  plan.chunk_rank.resize(plan.chunks.size());
  for (int r = 0; r < ranks; ++r)
    std::fill(plan.chunk_rank.begin() + plan.own_chunks(r).begin, plan.chunk_rank.begin() + plan.own_chunks(r).end, r);

  const std::vector<Segment> segments = cut_at_documents(map, plan.documents);
  plan.segment_begin.assign(plan.documents.size(), 0);
  for (const Segment& segment : segments)
    if (segment.tokens.size() < plan.document_size(segment.document))
      ++plan.segment_begin[static_cast<std::size_t>(segment.document) + 1];
  for (std::size_t i = 1; i < plan.segment_begin.size(); ++i) plan.segment_begin[i] += plan.segment_begin[i - 1];
  Index local = 0, number = 0;
  for (const Segment& segment : segments) {
    const bool cut = segment.tokens.size() < plan.document_size(segment.document);
    if (segment.holder == rank) {
      plan.pieces.push_back(
          {{local, local + segment.tokens.size()}, segment.tokens.begin, segment.document, cut ? number : -1});
      local += segment.tokens.size();
    }
    number += cut;
  }
  return plan;
}

}  // namespace plasmid
