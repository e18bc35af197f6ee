#include "launcher/bench/result.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "runtime/tensor/ledger.hpp"

namespace plasmid::bench {
namespace {

using nlohmann::ordered_json;

std::string formatted(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

std::string seconds_text(double seconds) {
  const double size = std::abs(seconds);
  if (size >= 1) return formatted("%.3f s", seconds);
  return size >= 1e-3 || size == 0 ? formatted("%.3f ms", seconds * 1e3) : formatted("%.1f us", seconds * 1e6);
}

std::string header_of(std::string name) {
  std::ranges::replace(name, '_', ' ');
  return name;
}

ordered_json json_of(const Ceilings& before, const Ceilings& after) {
  const auto both = [&](double Ceilings::*rate) {
    return ordered_json{{"before", before.*rate}, {"after", after.*rate}};
  };
  return {{"fma", both(&Ceilings::fma)}, {"sgemm", both(&Ceilings::sgemm)}, {"triad", both(&Ceilings::triad)}};
}

ordered_json json_of(const Row& row) {
  const bool timed = row.unit == Unit::seconds;
  ordered_json object{{"name", row.name},
                      {"shape", row.shape},
                      {"unit", timed ? "s" : "byte"},
                      {"clock", timed ? ordered_json(name_of(row.clock)) : ordered_json()},
                      {"median", row.value.median},
                      {"low", row.value.low},
                      {"high", row.value.high}};
  const auto list = [&](const char* name, const Series& series) {
    for (const Times& times : series.all)
      object[name].push_back({{"wall", times.wall}, {"cpu", times.cpu}, {"thread", times.thread}});
  };
  list("repetitions", row.repetitions);
  list("beside", row.beside);
  if (row.before.fma > 0) object["ceilings"] = json_of(row.before, row.after);
  object["figures"] = ordered_json::object();
  for (const Figure& figure : row.figures) object["figures"][figure.name] = figure.value;
  if (!row.details.is_null()) object["details"] = row.details;
  return object;
}

}  // namespace

std::string to_text(double value, Unit unit) {
  switch (unit) {
    case Unit::seconds:
      return seconds_text(value);
    case Unit::bytes:
      return human_bytes(static_cast<Index>(value));
    case Unit::flop_rate:
      return formatted("%.1f GFLOP/s", value * 1e-9);
    case Unit::byte_rate:
      return formatted("%.2f GB/s", value * 1e-9);
    case Unit::token_rate:
      return formatted("%.0f/s", value);
    case Unit::fraction:
      return formatted("%.3f", value);
    case Unit::count:
      return formatted("%.0f", value);
  }
  return "";
}

void print_table(const std::vector<std::vector<std::string>>& cells) {
  std::vector<std::size_t> widths(cells.front().size(), 0);
  for (const auto& row : cells)
    for (std::size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
  for (const auto& row : cells) {
    std::printf("%-*s", static_cast<int>(widths[0]), row[0].c_str());
    for (std::size_t c = 1; c < row.size(); ++c) std::printf("  %*s", static_cast<int>(widths[c]), row[c].c_str());
    std::printf("\n");
  }
}

void Result::print() const {
  const ordered_json& e = environment_;
  std::printf("%s, %d processors, %s; %d rank(s) on %d host(s), %d thread(s) each; plasmid %s %s\n",
              e["cpu"].get<std::string>().c_str(), e["processors"].get<int>(), e["simd"].get<std::string>().c_str(),
              e["ranks"].get<int>(), e["hosts"].get<int>(), e["threads"].get<int>(),
              e["version"].get<std::string>().c_str(), e["commit"].get<std::string>().c_str());
  std::vector<std::string> columns;
  for (const Row& row : rows_)
    for (const Figure& figure : row.figures)
      if (std::ranges::find(columns, figure.name) == columns.end()) columns.push_back(figure.name);

  std::vector<std::vector<std::string>> cells = {{benchmark_, "median", "spread"}};
  for (const std::string& name : columns) cells[0].push_back(header_of(name));
  for (const Row& row : rows_) {
    std::vector<std::string>& line = cells.emplace_back();
    line = {row.name, to_text(row.value.median, row.unit), formatted("%.1f %%", 100 * row.value.width())};
    for (const std::string& name : columns) {
      const auto figure = std::ranges::find(row.figures, name, &Figure::name);
      line.push_back(figure == row.figures.end() ? "" : to_text(figure->value, figure->unit));
    }
  }
  print_table(cells);
  for (const std::string& line : notes_) std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

ordered_json Result::json() const {
  ordered_json rows = ordered_json::array();
  for (const Row& row : rows_) rows.push_back(json_of(row));
  return {{"benchmark", benchmark_}, {"environment", environment_}, {"notes", notes_}, {"rows", std::move(rows)}};
}

}  // namespace plasmid::bench
