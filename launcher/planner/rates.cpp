#include "launcher/planner/rates.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <limits>
#include <string_view>

#include "runtime/base/check.hpp"
#include "runtime/base/error.hpp"

namespace plasmid {
namespace {

[[noreturn]] void refuse(const std::string& text, const std::string& why) {
  throw Error(ErrorCode::usage, "a link is RATE,LATENCY such as 1Gbit/s,50us: '" + text + "' " + why);
}

// The number at the front, from zero on; the rest is its unit.
double take_number(const std::string& whole, std::string_view& rest) {
  double value = 0;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), value);
  if (error != std::errc() || !std::isfinite(value) || value < 0) refuse(whole, "has no number where one is due");
  rest.remove_prefix(static_cast<std::size_t>(end - rest.data()));
  return value;
}

double bytes_per_second(const std::string& whole, std::string_view text) {
  double value = take_number(whole, text);
  constexpr std::string_view kPrefixes = "kMGT";
  if (const auto prefix = kPrefixes.find(text.empty() ? '?' : text.front()); prefix != std::string_view::npos) {
    value *= std::pow(1e3, static_cast<double>(prefix + 1));
    text.remove_prefix(1);
  }
  if (text == "bit/s") value /= 8;
  if ((text != "bit/s" && text != "B/s") || value <= 0) refuse(whole, "has no rate in bit/s or B/s above 0");
  return value;
}

double seconds(const std::string& whole, std::string_view text) {
  const double value = take_number(whole, text);
  constexpr std::pair<std::string_view, double> kUnits[] = {{"ns", 1e-9}, {"us", 1e-6}, {"ms", 1e-3}, {"s", 1}};
  for (const auto& [unit, scale] : kUnits)
    if (text == unit) return value * scale;
  refuse(whole, "has no latency in ns, us, ms or s");
}

}  // namespace

PairTime Rates::pair_at(double tokens) const {
  PLASMID_CHECK(!attention.empty()) << "no attention was measured";
  const auto above = std::ranges::find_if(attention, [&](const PairTime& at) { return at.tokens >= tokens; });
  if (above == attention.begin()) return attention.front();
  if (above == attention.end()) return attention.back();
  const PairTime &low = *(above - 1), &high = *above;
  const double share = std::log(tokens / low.tokens) / std::log(high.tokens / low.tokens);
  return {tokens, std::lerp(low.forward, high.forward, share), std::lerp(low.backward, high.backward, share)};
}

Link parse_link(const std::string& text) {
  const auto comma = text.find(',');
  if (comma == std::string::npos) refuse(text, "has no comma");
  Link link;
  link.bytes_per_second = bytes_per_second(text, std::string_view(text).substr(0, comma));
  link.latency = seconds(text, std::string_view(text).substr(comma + 1));
  return link;
}

std::string to_text(const Link& link) {
  if (std::isinf(link.bytes_per_second)) return "no limit";
  char text[64];
  const double bits = 8 * link.bytes_per_second;
  const char* const units[] = {"bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"};
  const int thousands = std::clamp(static_cast<int>(std::floor(std::log10(std::max(bits, 1.0)) / 3)), 0, 4);
  std::snprintf(text, sizeof text, "%.3g %s, %.3g us", bits / std::pow(1e3, thousands), units[thousands],
                link.latency * 1e6);
  return text;
}

}  // namespace plasmid
