#pragma once
#include <cstdint>
#include <vector>

#include "parallel/cp/partition.hpp"
#include "runtime/nn/token_map.hpp"

namespace plasmid::test {

// A batch line of documents laid end to end, and the map of the part that one holder has. Owns what the map borrows.
class LocalLine {
 public:
  LocalLine(const std::vector<Index>& document_lengths, Shards shards, Index shard,
            std::vector<std::uint8_t> key_valid = {})
      : shards_(std::move(shards)), key_valid_(std::move(key_valid)) {
    for (const Index length : document_lengths) begin_.push_back(begin_.back() + length);
    std::size_t document = 0;
    for (const Range& range : shards_[static_cast<std::size_t>(shard)])
      for (Index global = range.begin; global < range.end; ++global) {
        while (begin_[document + 1] <= global) ++document;
        global_.push_back(global);
        document_.push_back(static_cast<std::int32_t>(document));
        position_.push_back(static_cast<std::int32_t>(global - begin_[document]));
      }
    sample_.assign(global_.size(), 0);
    map_.position = view_of(std::span<const std::int32_t>(position_));
    map_.document = view_of(std::span<const std::int32_t>(document_));
    map_.sample = view_of(std::span<const std::int32_t>(sample_));
    map_.shards = shards_;
    map_.shard = shard;
    map_.document_begin = begin_;
    map_.key_valid = key_valid_;
  }
  // One document on one holder.
  explicit LocalLine(Index length) : LocalLine({length}, {{{0, length}}}, 0) {}
  LocalLine(const LocalLine&) = delete;
  LocalLine& operator=(const LocalLine&) = delete;

  const TokenMap& map() const { return map_; }
  Index tokens() const { return static_cast<Index>(global_.size()); }
  const std::vector<Index>& global() const { return global_; }  // [tokens], place in the line

  // This holder's part of something that is given for the whole line, `row` values a token.
  template <class T>
  std::vector<T> part_of(std::span<const T> line, Index row = 1) const {
    std::vector<T> part;
    for (const Index token : global_)
      part.insert(part.end(), line.begin() + token * row, line.begin() + (token + 1) * row);
    return part;
  }

 private:
  Shards shards_;
  std::vector<std::uint8_t> key_valid_;
  std::vector<Index> begin_ = {0}, global_;
  std::vector<std::int32_t> position_, document_, sample_;
  TokenMap map_;
};

}  // namespace plasmid::test
