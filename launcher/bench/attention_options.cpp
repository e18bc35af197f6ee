#include "launcher/bench/attention_options.hpp"

#include "runtime/base/error.hpp"

namespace plasmid::bench {

void AttentionOptions::add_to(CLI::App& app) {
  const auto count = CLI::Range(Index{1}, Index{1} << 30);
  app.add_option("--tokens", tokens, "lengths of the line, of all ranks together (2048,8192)")
      ->delimiter(',')
      ->check(count);
  app.add_option("--heads", heads, "query heads (1)")->check(count);
  app.add_option("--kv-heads", kv_heads, "key/value heads; divides --heads. Else as many")->check(count);
  app.add_option("--d", d, "channels of a head (64)")->check(CLI::Range(1, 1024));
  app.add_option("--mask", mask, "causal, full, or window: --window keys, the query's own the last (causal)")
      ->check(CLI::IsMember({"causal", "full", "window"}));
  app.add_option("--window", window, "of --mask window: keys that a query sees")->check(count);
  app.add_option("--pass", passes, "which to time (forward,backward,both)")
      ->delimiter(',')
      ->check(CLI::IsMember({"forward", "backward", "both"}));
}

AttentionShape AttentionOptions::shape(Index line) const {
  AttentionShape shape{line, heads, kv_heads > 0 ? kv_heads : heads, d, Pattern::full()};
  if (shape.heads % shape.kv_heads != 0)
    throw Error(ErrorCode::usage, "--kv-heads: " + std::to_string(shape.kv_heads) + " does not divide --heads " +
                                      std::to_string(shape.heads) + ": remainder " +
                                      std::to_string(shape.heads % shape.kv_heads));
  if ((mask == "window") != (window > 0))
    throw Error(ErrorCode::usage, mask == "window" ? "--mask window: --window tells how many keys"
                                                   : "--window: " + std::to_string(window) + " is of --mask window");
  if (mask != "full") shape.pattern = Pattern::causal();
  if (mask == "window") shape.pattern.left = window - 1;
  return shape;
}

std::string describe(const AttentionShape& shape, const AttentionOptions& options) {
  std::string text = options.mask;
  if (options.mask == "window") text += " " + std::to_string(options.window);
  text += " " + std::to_string(shape.tokens) + " x " + std::to_string(shape.heads);
  if (shape.kv_heads != shape.heads) text += "/" + std::to_string(shape.kv_heads);
  return text + " x " + std::to_string(shape.d);
}

nlohmann::ordered_json json_of(const AttentionShape& shape, const AttentionOptions& options, const std::string& pass,
                               Session& session, double dropout) {
  return {{"tokens", shape.tokens},
          {"heads", shape.heads},
          {"kv_heads", shape.kv_heads},
          {"d", shape.d},
          {"mask", options.mask},
          {"window", options.window},
          {"dropout", dropout},
          {"pass", pass},
          {"ranks", session.ranks().size()},
          {"threads", session.threads()}};
}

}  // namespace plasmid::bench
