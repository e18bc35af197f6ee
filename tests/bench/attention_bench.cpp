// Attention on one thread over masks, heads and widths of many kinds, each beside causal attention over as many pairs:
// what falls far below it is a cliff; and of numbers stored in two bytes beside four. With a word: only those with the
// word in their names.
#include <omp.h>

#include <cmath>
#include <cstdio>
#include <random>
#include <string>

#include "runtime/device/simd.hpp"
#include "tests/bench/attention_problem.hpp"
#include "tests/bench/report.hpp"

namespace plasmid::bench {

std::string wanted;  // in names

namespace {

MaskPlan window(Index n, Index left, Index right) {
  MaskPlan mask = causal(n);
  for (Index i = 0; i < n; ++i)
    mask.rows[static_cast<std::size_t>(i)] = {static_cast<std::int32_t>(std::max<Index>(0, i - left)),
                                              static_cast<std::int32_t>(std::min(n, i + right + 1))};
  return mask;
}

// Documents of `least` to `most` tokens, causal.
MaskPlan packed(Index n, Index least, Index most) {
  MaskPlan mask = causal(n);
  std::mt19937 bits(2);
  Index begin = 0, end = 0;
  for (Index i = 0; i < n; ++i) {
    if (i == end) begin = i, end = i + std::uniform_int_distribution<Index>(least, most)(bits);
    mask.rows[static_cast<std::size_t>(i)].begin = static_cast<std::int32_t>(begin);
  }
  return mask;
}

void beside_causal(const std::string& name, const MaskPlan& mask, Index heads, Index kv_heads, Index d) {
  if (name.find(wanted) == std::string::npos) return;
  AttentionProblem problem(mask, heads, kv_heads, d);
  AttentionProblem plain(causal(std::llround(std::sqrt(2.0 * static_cast<double>(mask.pairs())))), heads, heads, d);
  problem.check();
  const auto measure_both = [&](AttentionProblem& it, const std::string& label) {
    report_flops(label + " forward", 4 * it.products(), [&] { it.forward(); });
    report_flops(label + " backward", 10 * it.products(), [&] { it.backward(); });
  };
  const std::string shape = std::to_string(heads) + "/" + std::to_string(kv_heads) + " x " + std::to_string(d);
  measure_both(problem, name + ", " + shape);
  measure_both(plain, "  causal, as many pairs");
}

// Both kinds of storage by turns.
void storage(Index n, Index heads, Index d) {
  const std::string name =
      "storage, causal " + std::to_string(n) + ", " + std::to_string(heads) + " x " + std::to_string(d);
  if (name.find(wanted) == std::string::npos) return;
  AttentionProblem wide(causal(n), heads, heads, d), narrow(causal(n), heads, heads, d, DType::bf16);
  wide.check(), narrow.check();
  for (int turn = 0; turn < 2; ++turn)
    for (const auto& [label, it] : {std::pair(" f32", &wide), std::pair(" bf16", &narrow)}) {
      report_flops(name + label + " forward", 4 * it->products(), [&] { it->forward(); });
      report_flops(name + label + " backward", 10 * it->products(), [&] { it->backward(); });
    }
}

}  // namespace

void shapes() {
  std::printf("%s\n", name_of(simd_in_use()).c_str());
  beside_causal("documents of 100-500 in 8192", packed(8192, 100, 500), 4, 4, 64);
  beside_causal("documents of 20-100 in 8192", packed(8192, 20, 100), 4, 4, 64);
  for (const Index left : {31, 127, 511})
    beside_causal("window of " + std::to_string(left + 1) + " in 8192", window(8192, left, 0), 4, 4, 64);
  beside_causal("causal 2048", causal(2048), 8, 2, 64);
  beside_causal("causal 512", causal(512), 6, 6, 64);
  beside_causal("causal 128", causal(128), 6, 6, 64);
  for (const Index d : {64, 128})
    for (const Index n : {512, 2048, 8192}) storage(n, 2, d);
  for (const Index d : {16, 32, 40, 80, 96, 100, 256}) beside_causal("causal 2048", causal(2048), 2, 2, d);
}

}  // namespace plasmid::bench

int main(int count, char** words) {
  omp_set_num_threads(1);
  if (count > 1) plasmid::bench::wanted = words[1];
  plasmid::bench::shapes();
}
