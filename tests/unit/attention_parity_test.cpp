// Attention kernels against the repository's own numbers from PyTorch in f64: grouped heads, documents, keys that do
// not count, rows that see nothing.
#include <gtest/gtest.h>

#include <cmath>

#include "runtime/io/safetensors.hpp"
#include "tests/support/attention_case.hpp"
#include "tests/support/local_line.hpp"

namespace plasmid::test {
namespace {

template <class T>
std::vector<T> values(const SafetensorsFile& file, const char* name) {
  const auto flat = file.tensor(name).flat<T>();
  return {flat.begin(), flat.end()};
}

TEST(AttentionParity, DocumentsPaddingAndGroupedHeads) {
  const SafetensorsFile file(std::string(PLASMID_SOURCE_DIR) + "/tests/reference/attention.safetensors");
  const Shape q = file.tensor("q").shape;  // [tokens, heads, d]
  const auto begin = values<std::int64_t>(file, "document_begin");
  std::vector<Index> lengths;
  for (std::size_t i = 0; i + 1 < begin.size(); ++i) lengths.push_back(begin[i + 1] - begin[i]);
  const LocalLine line(lengths, {{{0, q[0]}}}, 0, values<std::uint8_t>(file, "key_valid"));

  AttentionCase problem{.queries = q[0],
                        .keys = q[0],
                        .heads = q[1],
                        .kv_heads = file.tensor("k").dim(1),
                        .d = q[2],
                        .mask = {},
                        .q = {},
                        .dout = {},
                        .k = {},
                        .v = {}};
  problem.scale = 1 / std::sqrt(static_cast<float>(q[2]));
  problem.mask = plan_mask(line.map(), 0, 0, Pattern::causal());
  problem.q = values<float>(file, "q");
  problem.k = values<float>(file, "k");
  problem.v = values<float>(file, "v");
  problem.dout = values<float>(file, "dout");

  AttentionResult<double> exact = dense_attention<double>(problem);  // for the size of the terms; the rest is replaced
  exact.out = values<double>(file, "out");
  exact.lse = values<double>(file, "lse");
  exact.dq = values<double>(file, "dq");
  exact.dk = values<double>(file, "dk");
  exact.dv = values<double>(file, "dv");
  const AttentionResult<float> plain = dense_attention<float>(problem);
  expect_close(run_kernel(*make_reference_kernel(), problem), exact, plain, 4, "reference kernel");
  expect_close(run_kernel(*make_host_kernel(), problem), exact, plain, 4, "host kernel");
}

}  // namespace
}  // namespace plasmid::test
