#include "runtime/tensor/ledger.hpp"

#include <algorithm>
#include <cstdio>
#include <utility>
#include <vector>

#include "runtime/base/check.hpp"

namespace plasmid {

void Ledger::add(std::string_view tag, Index bytes) {
  auto found = tags_.find(tag);
  if (found == tags_.end()) found = tags_.emplace(tag, Count{}).first;
  Count& count = found->second;
  count.live += bytes;
  count.peak = std::max(count.peak, count.live);
  live_ += bytes;
  peak_ = std::max(peak_, live_);
}

void Ledger::remove(std::string_view tag, Index bytes) {
  const auto found = tags_.find(tag);
  PLASMID_CHECK(found != tags_.end() && found->second.live >= bytes) << "more bytes given back than taken: " << tag;
  found->second.live -= bytes;
  live_ -= bytes;
}

Index Ledger::live_bytes(std::string_view tag) const {
  const auto found = tags_.find(tag);
  return found == tags_.end() ? 0 : found->second.live;
}

std::string Ledger::largest_tags(int how_many) const {
  std::vector<std::pair<Index, std::string_view>> order;
  for (const auto& [tag, count] : tags_)
    if (count.live > 0) order.emplace_back(count.live, tag);
  std::sort(order.rbegin(), order.rend());
  std::string text;
  for (int i = 0; i < how_many && i < static_cast<int>(order.size()); ++i) {
    const auto& [bytes, tag] = order[static_cast<std::size_t>(i)];
    text += (text.empty() ? "" : ", ") + std::string(tag) + " " + human_bytes(bytes);
  }
  return text.empty() ? "nothing" : text;
}

void Ledger::for_each_tag(const std::function<void(std::string_view, Index, Index)>& visit) const {
  for (const auto& [tag, count] : tags_) visit(tag, count.live, count.peak);
}

std::string human_bytes(Index bytes) {
  constexpr const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  auto amount = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (amount >= 1024 && unit + 1 < std::size(units)) amount /= 1024, ++unit;
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", amount, units[unit]);
  return text;
}

}  // namespace plasmid
