#include "launcher/bench/compare.hpp"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "launcher/bench/environment.hpp"
#include "launcher/bench/result.hpp"
#include "launcher/bootstrap/together.hpp"
#include "runtime/base/error.hpp"

namespace plasmid::bench {
namespace {

using nlohmann::ordered_json;

struct ReadRow {
  std::string name;
  ordered_json shape;
  Unit unit = Unit::seconds;
  std::string clock;
  Spread value;
};

struct ReadResult {
  std::filesystem::path path;
  std::string benchmark;
  ordered_json environment;
  std::vector<ReadRow> rows;
};

ReadRow read_row(const ordered_json& row) {
  const ordered_json& clock = row.at("clock");
  ReadRow read{row.at("name"),
               row.at("shape"),
               row.at("unit") == "byte" ? Unit::bytes : Unit::seconds,
               clock.is_null() ? "" : clock.get<std::string>(),
               {row.at("median"), row.at("low"), row.at("high")}};
  if (!(0 < read.value.low && read.value.low <= read.value.median && read.value.median <= read.value.high))
    throw std::runtime_error("row \"" + read.name + "\": low, median and high are not in order above 0");
  return read;
}

ReadResult read_result(const std::filesystem::path& path) {
  std::ifstream file(path);
  if (!file || std::filesystem::is_directory(path))
    throw Error(ErrorCode::no_input, path.string() + ": cannot be read");
  try {
    const ordered_json content = ordered_json::parse(file);
    ReadResult result{path, content.at("benchmark"), content.at("environment"), {}};
    if (!result.environment.is_object()) throw std::runtime_error("environment is no object");
    for (const ordered_json& row : content.at("rows")) {
      result.rows.push_back(read_row(row));
      if (&*std::ranges::find(result.rows, result.rows.back().name, &ReadRow::name) != &result.rows.back())
        throw std::runtime_error("two rows \"" + result.rows.back().name + "\"");
    }
    return result;
  } catch (const std::exception& problem) {
    throw Error(ErrorCode::data, path.string() + ": no result of plasmid bench: " + problem.what());
  }
}

const ReadRow* find(const ReadResult& result, const std::string& name) {
  for (const ReadRow& row : result.rows)
    if (row.name == name) return &row;
  return nullptr;
}

void require_same(const ReadResult& a, const ReadResult& b) {
  const std::string files = a.path.string() + " and " + b.path.string();
  if (a.benchmark != b.benchmark)
    throw Error(ErrorCode::data, files + ": results of bench " + a.benchmark + " and of bench " + b.benchmark);
  for (const auto& [one, other] : {std::pair{&a, &b}, {&b, &a}})
    for (const ReadRow& row : one->rows)
      if (!find(*other, row.name))
        throw Error(ErrorCode::data,
                    other->path.string() + ": no row \"" + row.name + "\", which " + one->path.string() + " has");
  for (const ReadRow& row : a.rows) {
    const ReadRow& twin = *find(b, row.name);
    if (row.shape != twin.shape || row.unit != twin.unit)
      throw Error(ErrorCode::data,
                  files + ": row \"" + row.name + "\" is of shapes " + row.shape.dump() + " and " + twin.shape.dump());
    if (row.clock != twin.clock)
      throw Error(ErrorCode::data,
                  files + ": row \"" + row.name + "\" is told by " + row.clock + " and by " + twin.clock + " time");
  }
}

void warn_of_environments(const ReadResult& a, const ReadResult& b) {
  for (const std::string& name : differences(a.environment, b.environment)) {
    const std::string line = "warning: environments differ: " + name + " " +
                             a.environment.value(name, ordered_json()).dump() + " before, " +
                             b.environment.value(name, ordered_json()).dump() + " after";
    std::fprintf(stderr, "plasmid: %s\n", one_line(line).c_str());
  }
}

}  // namespace

int compare(const CompareOptions& options) {
  const ReadResult before = read_result(options.before), after = read_result(options.after);
  require_same(before, after);
  warn_of_environments(before, after);
  bool failed = false;
  std::vector<std::vector<std::string>> table = {{before.benchmark, "before", "after", "ratio", "from", "to", ""}};
  for (const ReadRow& a : before.rows) {
    const ReadRow& b = *find(after, a.name);
    const double ratio = b.value.median / a.value.median, low = b.value.low / a.value.high,
                 high = b.value.high / a.value.low;
    const bool outside = low > 1 || high < 1;
    const bool fails = options.fail_above > 0 && outside && ratio > options.fail_above;
    failed |= fails;
    const std::string verdict =
        outside ? (ratio > 1 ? "more, outside the spread" : "less, outside the spread") : "within the spread";
    table.push_back({a.name, to_text(a.value.median, a.unit), to_text(b.value.median, b.unit),
                     to_text(ratio, Unit::fraction), to_text(low, Unit::fraction), to_text(high, Unit::fraction),
                     verdict + (fails ? ": FAILS" : "")});
  }
  print_table(table);
  return failed ? 1 : 0;
}

}  // namespace plasmid::bench
