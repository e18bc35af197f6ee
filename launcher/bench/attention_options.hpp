#pragma once
#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "launcher/bench/attention_oracle.hpp"
#include "launcher/bench/session.hpp"

namespace plasmid::bench {

// The shapes that `bench attention` and `bench ring` take from the command line.
struct AttentionOptions {
  std::vector<Index> tokens = {2048, 8192};
  Index heads = 1, kv_heads = 0, d = 64, window = 0;  // kv_heads 0: as heads
  std::string mask = "causal";
  std::vector<std::string> passes = {"forward", "backward", "both"};

  void add_to(CLI::App&);
  // Throws Error{usage} with the arithmetic for what is no shape.
  AttentionShape shape(Index tokens) const;
};

std::string describe(const AttentionShape&, const AttentionOptions&);  // "causal 8192 x 6/2 x 64"
// What two results must agree in to be compared.
nlohmann::ordered_json json_of(const AttentionShape&, const AttentionOptions&, const std::string& pass, Session&,
                               double dropout = 0);

}  // namespace plasmid::bench
