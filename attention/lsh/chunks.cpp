#include "attention/lsh/lsh.hpp"
#include "runtime/base/check.hpp"

namespace plasmid {

std::vector<LshChunk> cut_chunks(std::span<const Index> document_begin, Index chunk) {
  PLASMID_CHECK(chunk > 0) << "chunks of " << chunk << " tokens";
  std::vector<LshChunk> chunks;
  for (std::size_t i = 0; i + 1 < document_begin.size(); ++i) {
    const Index begin = document_begin[i], end = document_begin[i + 1], count = ceil_div(end - begin, chunk);
    const auto first = static_cast<std::int32_t>(chunks.size()), last = first + static_cast<std::int32_t>(count) - 1;
    for (Index c = 0; c < count; ++c) {
      const auto own = first + static_cast<std::int32_t>(c);
      LshChunk& made = chunks.emplace_back();
      made.places = {begin + c * chunk, c + 1 < count ? begin + (c + 1) * chunk : end};
      if (count == 1) continue;
      made.wraps = c == 0;
      made.previous = c == 0 ? last : own - 1;
      made.next = own == last ? first : own + 1;
    }
  }
  PLASMID_CHECK(chunks.size() < std::size_t{1} << 31) << chunks.size() << " chunks";
  return chunks;
}

}  // namespace plasmid
