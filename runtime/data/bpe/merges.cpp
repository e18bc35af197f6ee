#include "runtime/data/bpe/merges.hpp"

#include <algorithm>
#include <cstdio>

#include "runtime/base/error.hpp"
#include "runtime/base/quote.hpp"

namespace plasmid::bpe {
namespace {

std::uint64_t pair_of(std::int32_t left, std::int32_t right) {
  return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
}

std::uint64_t key_of(std::string_view character) {
  std::uint64_t key = 0;
  for (const char byte : character) key = key << 8 | static_cast<unsigned char>(byte);
  return key;
}

std::string fallback_name(int byte) {
  char name[8];
  std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(byte));
  return name;
}

}  // namespace

Merges::Merges(const Model& model, const std::string& mark, const std::string& file)
    : byte_level_(model.byte_level),
      fuse_unknown_(model.fuse_unknown),
      byte_fallback_(model.byte_fallback && !model.byte_level),
      ignore_merges_(model.ignore_merges),
      mark_(mark),
      byte_ids_(256, -1) {
  for (const auto& [token, id] : model.vocabulary) {
    ids_.emplace(token, id);
    add_neighbours(token);
  }
  if (model.unknown) {
    // A byte-level vocabulary may hold it as an added token only, and then never needs it.
    unknown_ = id_of(*model.unknown);
    if (unknown_ < 0 && !byte_level_)
      throw Error(ErrorCode::data, file + ": model.unk_token " + quote(*model.unknown) + " is not in the vocabulary");
  }
  for (int byte = 0; byte < 256; ++byte) {
    if (byte_level_) byte_ids_[static_cast<std::size_t>(byte)] = id_of(std::string(1, static_cast<char>(byte)));
    if (byte_fallback_) byte_ids_[static_cast<std::size_t>(byte)] = id_of(fallback_name(byte));
  }
  const auto lacking = std::ranges::find(byte_ids_, -1) - byte_ids_.begin();
  if (lacking < 256 && (byte_fallback_ || byte_level_))
    throw Error(ErrorCode::config, file + ": a vocabulary without a token for byte " +
                                       fallback_name(static_cast<int>(lacking)) + " is not supported");
  if (!byte_level_ && !byte_fallback_ && unknown_ < 0)
    throw Error(ErrorCode::config,
                file + ": a model of characters without unk_token or byte_fallback is not supported");

  for (std::size_t rank = 0; rank < model.merges.size(); ++rank) {
    const auto& [left, right] = model.merges[rank];
    for (const std::string& token : {left, right, left + right})
      if (id_of(token) < 0)
        throw Error(ErrorCode::data, file + ": model.merges: " + quote(token) + " is not in the vocabulary");
    const bool of_bytes = byte_fallback_ && (std::ranges::count(byte_ids_, id_of(left)) > 0 ||
                                             std::ranges::count(byte_ids_, id_of(right)) > 0);
    if (of_bytes || id_of(left) == unknown_ || id_of(right) == unknown_)
      throw Error(ErrorCode::config,
                  file + ": model.merges: a merge of " + quote(left) + " and " + quote(right) + " is not supported");
    merges_[pair_of(id_of(left), id_of(right))] = {static_cast<std::int32_t>(rank), id_of(left + right)};
  }
}

std::int32_t Merges::id_of(std::string_view token) const {
  const auto found = ids_.find(token);
  return found == ids_.end() ? -1 : found->second;
}

void Merges::add_neighbours(std::string_view token) {
  std::string_view before;
  while (!token.empty()) {
    const std::string_view unit = token.substr(0, byte_level_ ? 1 : character_length(token.front()));
    if (!before.empty()) neighbours_.insert(key_of(before) << 32 | key_of(unit));
    before = unit;
    token.remove_prefix(unit.size());
  }
}

bool Merges::may_cut(std::string_view before, std::string_view after) const {
  if (neighbours_.contains(key_of(before) << 32 | key_of(after))) return false;
  const bool may_fuse = fuse_unknown_ && !byte_fallback_ && !byte_level_;
  return !may_fuse || id_of(before) >= 0 || id_of(after) >= 0;
}

void Merges::add(std::int32_t id, std::uint32_t bytes) {
  const auto place = static_cast<std::int64_t>(symbols_.size());
  symbols_.push_back({id, bytes, place - 1, place + 1});
}

void Merges::start_unknown(std::string_view character) {
  if (byte_fallback_) {
    for (const char byte : character) add(byte_ids_[static_cast<unsigned char>(byte)], 1);
  } else if (unknown_waits_ && fuse_unknown_) {
    symbols_.back().bytes += static_cast<std::uint32_t>(character.size());
  } else {
    add(unknown_, static_cast<std::uint32_t>(character.size()));
  }
  unknown_waits_ = !byte_fallback_;
}

void Merges::start(std::string_view word) {
  symbols_.clear();
  unknown_waits_ = false;
  while (!word.empty()) {
    const std::string_view unit = word.substr(0, byte_level_ ? 1 : character_length(word.front()));
    word.remove_prefix(unit.size());
    const std::int32_t id = byte_level_ ? byte_ids_[static_cast<unsigned char>(unit.front())] : id_of(unit);
    if (id < 0) {
      start_unknown(unit);
      continue;
    }
    unknown_waits_ = false;
    add(id, unit == mark_ ? 1 : static_cast<std::uint32_t>(unit.size()));
  }
  symbols_.back().next = -1;
}

void Merges::offer(std::int64_t left) {
  if (left < 0 || symbols_[static_cast<std::size_t>(left)].next < 0) return;
  const Symbol& symbol = symbols_[static_cast<std::size_t>(left)];
  const auto found = merges_.find(pair_of(symbol.id, symbols_[static_cast<std::size_t>(symbol.next)].id));
  if (found == merges_.end()) return;
  heap_.push_back({found->second.rank, found->second.id, left});
  std::push_heap(heap_.begin(), heap_.end());
}

void Merges::join(const Candidate& candidate) {
  Symbol& left = symbols_[static_cast<std::size_t>(candidate.at)];
  if (left.id < 0 || left.next < 0) return;
  Symbol& right = symbols_[static_cast<std::size_t>(left.next)];
  const auto merge = merges_.find(pair_of(left.id, right.id));
  if (merge == merges_.end() || merge->second.id != candidate.id) return;  // the pair is another one by now
  left.id = candidate.id;
  left.bytes += right.bytes;
  left.next = right.next;
  right.id = -1;
  if (left.next >= 0) symbols_[static_cast<std::size_t>(left.next)].previous = candidate.at;
  offer(left.previous);
  offer(candidate.at);
}

void Merges::encode(std::string_view word, bool whole, std::vector<Token>& to) {
  if (word.empty()) return;
  start(word);
  const std::int32_t known = whole && ignore_merges_ ? id_of(word) : -1;
  if (known >= 0) {
    Token token{known, 0};
    for (const Symbol& symbol : symbols_) token.bytes += symbol.bytes;
    to.push_back(token);
    return;
  }
  heap_.clear();
  for (std::int64_t i = 0; i + 1 < static_cast<std::int64_t>(symbols_.size()); ++i) offer(i);
  while (!heap_.empty()) {
    std::pop_heap(heap_.begin(), heap_.end());
    const Candidate candidate = heap_.back();
    heap_.pop_back();
    join(candidate);
  }
  for (std::int64_t i = 0; i >= 0; i = symbols_[static_cast<std::size_t>(i)].next)
    to.push_back({symbols_[static_cast<std::size_t>(i)].id, symbols_[static_cast<std::size_t>(i)].bytes});
}

}  // namespace plasmid::bpe
