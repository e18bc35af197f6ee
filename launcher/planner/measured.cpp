#include "launcher/planner/measured.hpp"

#include <algorithm>
#include <fstream>
#include <map>

#include "launcher/bench/ceilings.hpp"
#include "launcher/bench/ring_prediction.hpp"
#include "launcher/planner/timed_work.hpp"
#include "runtime/base/error.hpp"

namespace plasmid {
namespace {

using nlohmann::ordered_json;

ordered_json read_json(const std::filesystem::path& path) {
  std::ifstream file(path);
  if (!file || std::filesystem::is_directory(path))
    throw Error(ErrorCode::no_input, path.string() + ": cannot be read");
  ordered_json content = ordered_json::parse(file, nullptr, false);
  if (!content.is_object() || !(content.contains("rates") || (content.contains("rows") && content["rows"].is_array())))
    throw Error(ErrorCode::data, path.string() + ": not the JSON of plasmid bench or plasmid plan");
  return content;
}

Link link_from(const ordered_json& object) {
  return {object.at("latency_seconds"), object.at("bytes_per_second"), object.value("core_share", 0.0)};
}

void check(const Link& link) {
  if (!(link.latency >= 0) || !(link.bytes_per_second >= 0) || !(link.core_share >= 0 && link.core_share <= 1))
    throw Error(ErrorCode::data, "a link's rate or latency is below 0");
}

void take_rates(const ordered_json& rates, Index head_dim, Rates& into) {
  if (const Index d = rates.at("head_dim"); d == head_dim) {
    into.attention.clear(), into.head_dim = d;
    for (const auto& at : rates.at("attention"))
      into.attention.push_back({at.at("tokens"), at.at("forward_pair_seconds"), at.at("backward_pair_seconds")});
  }
  into.product_flops = rates.at("product_flops"), into.bytes = rates.at("bytes_per_second");
  if (rates.contains("between")) into.between = link_from(rates["between"]);
  if (rates.contains("inside")) into.inside = link_from(rates["inside"]);
}

// Rows of `bench attention` on whole lines: seconds of one pass by tokens.
void take_attention(const ordered_json& rows, Index head_dim, Rates& into) {
  std::map<Index, PairTime> found;
  for (const auto& row : rows) {
    const auto& shape = row.at("shape");
    if (shape.at("d") != head_dim || shape.at("mask") == "window" || shape.value("dropout", 0.0) > 0) continue;
    const auto tokens = shape.at("tokens").get<double>();
    const double seen = shape.at("mask") == "causal" ? (tokens + 1) / 2 : tokens;
    const double seconds = row.at("median").get<double>() / (tokens * seen * shape.at("heads").get<double>());
    PairTime& at = found[shape.at("tokens").get<Index>()];
    at.tokens = tokens;
    if (shape.at("pass") == "forward") at.forward = seconds;
    if (shape.at("pass") == "backward") at.backward = seconds;
  }
  std::erase_if(found, [](const auto& entry) { return entry.second.forward <= 0 || entry.second.backward <= 0; });
  if (found.empty()) return;
  into.attention.clear(), into.head_dim = head_dim;
  for (const auto& [tokens, at] : found) into.attention.push_back(at);
}

void take_ceilings(const ordered_json& rows, Rates& into) {
  double products = 0, bytes = 0, count = 0;
  for (const auto& row : rows) {
    if (!row.contains("ceilings")) continue;
    for (const char* when : {"before", "after"}) {
      products += row["ceilings"].at("sgemm").at(when).get<double>();
      bytes += row["ceilings"].at("triad").at(when).get<double>();
      ++count;
    }
  }
  if (count > 0) into.product_flops = products / count, into.bytes = bytes / count;
}

void take(const ordered_json& content, Index head_dim, Rates& into) {
  if (content.contains("rates")) return take_rates(content["rates"], head_dim, into);
  take_ceilings(content["rows"], into);
  if (content.value("benchmark", "") == "attention") take_attention(content["rows"], head_dim, into);
}

void check(const Rates& rates) {
  check(rates.between), check(rates.inside);
  for (const PairTime& at : rates.attention)
    if (!(at.tokens >= 1) || !(at.forward > 0) || !(at.backward > 0))
      throw Error(ErrorCode::data, "a pair's seconds are not above 0");
  if (!(rates.product_flops >= 0) || !(rates.bytes >= 0)) throw Error(ErrorCode::data, "a rate is below 0");
}

ordered_json json_of(const Link& link) {
  return {
      {"latency_seconds", link.latency}, {"bytes_per_second", link.bytes_per_second}, {"core_share", link.core_share}};
}

}  // namespace

Rates read_rates(const std::vector<std::filesystem::path>& files, Index head_dim) {
  Rates rates;
  for (const auto& path : files) {
    const ordered_json content = read_json(path);
    try {
      take(content, head_dim, rates);
      check(rates);
    } catch (const std::exception& failure) {
      throw Error(ErrorCode::data, path.string() + ": " + failure.what());
    }
  }
  std::ranges::sort(rates.attention, {}, &PairTime::tokens);
  return rates;
}

Rates measure_rates(const Job& job) {
  Rates rates;
  rates.head_dim = job.shape.head_dim();
  Index last = 0;
  for (const Index wanted : {256, 1024, 2048}) {
    const Index tokens = std::min(wanted, job.fields.data().sequence_length());
    if (tokens != last) rates.attention.push_back(time_attention(job.shape, tokens));
    last = tokens;
  }
  rates.bytes = optimizer_bytes_per_second();

  Job layer = job;
  layer.shape.layers = 1;
  const Index tokens = std::min<Index>(512, job.fields.data().sequence_length());
  const StepShape shape = step_shape(layer);
  const double seconds = layer_seconds(layer.shape, tokens), count = static_cast<double>(tokens);
  const PairTime pair = rates.pair_at(count);
  const double pairs = static_cast<double>(shape.heads) * count * (count + 1) / 2;
  const double rest = seconds - pairs * (pair.forward + pair.backward) - count * shape.pointwise_bytes / rates.bytes;
  // Where little is left, the bytes were estimated too high: products then take what pairs leave.
  rates.product_flops = count * shape.product_flops / std::max(rest, seconds / 4);
  return rates;
}

Link measure_link(Communicator& ranks) {
  constexpr Index kSmall = Index{1} << 16, kLarge = Index{1} << 22;
  const double small = bench::ring_shift(ranks, kSmall).spread(bench::Clock::wall).median;
  const double large = bench::ring_shift(ranks, kLarge).spread(bench::Clock::wall).median;
  return bench::link_of(static_cast<double>(kSmall), small, static_cast<double>(kLarge), large);
}

ordered_json to_json(const Rates& rates) {
  ordered_json attention = ordered_json::array();
  for (const PairTime& at : rates.attention)
    attention.push_back(
        {{"tokens", at.tokens}, {"forward_pair_seconds", at.forward}, {"backward_pair_seconds", at.backward}});
  ordered_json object{{"head_dim", rates.head_dim},
                      {"attention", attention},
                      {"product_flops", rates.product_flops},
                      {"bytes_per_second", rates.bytes}};
  if (rates.between.bytes_per_second > 0) object["between"] = json_of(rates.between);
  if (rates.inside.bytes_per_second > 0) object["inside"] = json_of(rates.inside);
  return object;
}

}  // namespace plasmid
