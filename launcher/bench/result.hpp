#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "launcher/bench/ceilings.hpp"
#include "launcher/bench/measure.hpp"

// What a benchmark found, as a table for people and as JSON for `plasmid bench compare` and other programs:
//
//   {"benchmark": "attention", "environment": {...}, "notes": [...],
//    "rows": [{"name": ..., "shape": {...},              what was measured; compared rows agree in both
//              "unit": "s" | "byte", "clock": "wall" | "thread CPU" | null,
//              "median": .., "low": .., "high": ..,      of the repetitions (Spread); less is better
//              "repetitions": [{"wall": .., "cpu": .., "thread": ..}, ...]      seconds; absent where nothing was timed
//              "beside": [...],                          the same, of what was called in turn with it; absent without
//              "ceilings": {"fma": {"before": .., "after": ..}, "sgemm": {...}, "triad": {...}},   FLOP/s or byte/s a
//              rank "figures": {"of_fma": .., ...}}]}         in base units: s, byte, FLOP/s, byte/s, fractions
namespace plasmid::bench {

enum class Unit : std::uint8_t { seconds, bytes, flop_rate, byte_rate, token_rate, fraction, count };

struct Figure {
  std::string name;  // "of_fma"; a column of the table
  double value = 0;
  Unit unit = Unit::fraction;
};

struct Row {
  std::string name;
  nlohmann::ordered_json shape;
  Unit unit = Unit::seconds;  // or bytes
  Clock clock = Clock::wall;
  Spread value = {};
  Series repetitions = {};
  Series beside = {};                // of Workload::beside
  Ceilings before = {}, after = {};  // all zero: not measured
  std::vector<Figure> figures = {};
  nlohmann::ordered_json details = {};  // what is too long for a table; "details" in the JSON
};

std::string to_text(double value, Unit);  // "12.3 ms", "1.2 GiB", "81.2 GFLOP/s", "0.862"

// Rows of as many cells, the first row the header; the first column is set left, the others right.
void print_table(const std::vector<std::vector<std::string>>& cells);

class Result {
 public:
  Result(std::string benchmark, nlohmann::ordered_json environment)
      : benchmark_(std::move(benchmark)), environment_(std::move(environment)) {}

  Row& add(Row row) { return rows_.emplace_back(std::move(row)); }
  void note(std::string line) { notes_.push_back(std::move(line)); }
  const std::vector<Row>& rows() const { return rows_; }

  void print() const;  // environment, table, notes
  nlohmann::ordered_json json() const;

 private:
  std::string benchmark_;
  nlohmann::ordered_json environment_;
  std::vector<Row> rows_;
  std::vector<std::string> notes_;
};

}  // namespace plasmid::bench
