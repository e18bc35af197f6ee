#pragma once
#include <filesystem>

namespace plasmid::bench {

struct CompareOptions {
  std::filesystem::path before, after;  // results that `plasmid bench ... --json` wrote
  double fail_above = 0;                // ratio of after to before; 0: none fails
};

// `plasmid bench compare`: prints each row's ratio of medians, after to before, and whether it lies outside the spread:
// whether the two spreads (result.hpp) have no value in common. Warns on standard error of what the environments do not
// share. Returns 1 where a row's ratio is above fail_above and outside the spread, else 0. Throws Error{no_input |
// data} for files that are no results, for results of different benchmarks, and for rows that are in one alone or of
// different shapes: those are not compared.
int compare(const CompareOptions&);

}  // namespace plasmid::bench
