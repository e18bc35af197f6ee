#pragma once
#include <CLI/CLI.hpp>

namespace plasmid {

// Each adds its sub-command and, when it was chosen, leaves its exit status in `status`. The command lives as long as
// the process.
void add_train(CLI::App&, int* argc, char*** argv, int& status);
void add_eval(CLI::App&, int* argc, char*** argv, int& status);
void add_data(CLI::App&, int& status);
void add_checkpoint(CLI::App&, int& status);
void add_plan(CLI::App&, int* argc, char*** argv, int& status);
void add_doctor(CLI::App&, int* argc, char*** argv, int& status);
void add_bench(CLI::App&, int* argc, char*** argv, int& status);

}  // namespace plasmid
