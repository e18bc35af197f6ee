#include "tests/support/reference_attention.hpp"

#include <cmath>

#include "runtime/io/safetensors.hpp"
#include "tests/support/reference.hpp"

namespace plasmid::test {
namespace {

// [batch, heads, length, width] to [batch * length, heads, width]
template <class T>
std::vector<T> end_to_end(ConstView tensor) {
  const Index batch = tensor.dim(0), heads = tensor.dim(1), length = tensor.dim(2);
  const Index width = tensor.shape.rank == 4 ? tensor.dim(3) : 1;
  const T* from = tensor.ptr<T>();
  std::vector<T> line(static_cast<std::size_t>(tensor.count()));
  for (Index b = 0; b < batch; ++b)
    for (Index h = 0; h < heads; ++h)
      for (Index i = 0; i < length; ++i)
        for (Index c = 0; c < width; ++c)
          line[static_cast<std::size_t>(((b * length + i) * heads + h) * width + c)] = *from++;
  return line;
}

Pattern pattern_of(const std::string& name) {
  if (name == "full") return Pattern::full();
  if (name == "window_causal") return {47, 0};
  if (name == "window_both") return {20, 35};
  return Pattern::causal();
}

}  // namespace

ReferenceAttention read_reference_attention(const std::string& name) {
  const SafetensorsFile file(reference_folder() / "attention_patterns" / (name + ".safetensors"));
  const ConstView q = file.tensor("q"), k = file.tensor("k");
  TokenLine line{name, q.dim(0), q.dim(2), pattern_of(name), {}, {}, {}};
  if (file.contains("document_ids")) {
    const auto ids = file.tensor("document_ids").flat<std::int32_t>();
    for (Index i = 0; i < line.total(); ++i) {
      const auto at = static_cast<std::size_t>(i);
      if (i % line.length == 0 || ids[at] != ids[at - 1]) line.document_begin.push_back(i);
    }
    line.document_begin.push_back(line.total());
  }
  if (file.contains("key_valid")) {
    const auto valid = file.tensor("key_valid").flat<std::uint8_t>();
    line.key_valid.assign(valid.begin(), valid.end());
  }
  ReferenceAttention reference;
  AttentionCase& problem = reference.problem;
  const TokenLine whole = line.split(1, Layout::contiguous);
  problem.mask = plan_mask(whole.map(0), 0, 0, line.pattern);
  problem.queries = problem.keys = line.total();
  problem.heads = q.dim(1), problem.kv_heads = k.dim(1), problem.d = q.dim(3);
  problem.scale = 1 / std::sqrt(static_cast<float>(problem.d));
  problem.q = end_to_end<float>(q), problem.k = end_to_end<float>(k);
  problem.v = end_to_end<float>(file.tensor("v")), problem.dout = end_to_end<float>(file.tensor("dout"));
  reference.result = dense_attention<double>(problem);  // for the sizes of what cancels
  reference.result.out = end_to_end<double>(file.tensor("out"));
  reference.result.lse = end_to_end<double>(file.tensor("lse"));
  reference.result.dq = end_to_end<double>(file.tensor("dq"));
  reference.result.dk = end_to_end<double>(file.tensor("dk"));
  reference.result.dv = end_to_end<double>(file.tensor("dv"));
  const auto allowed = file.tensor("allowed").flat<std::uint8_t>();
  for (Index b = 0; b < line.samples; ++b) {  // [1, length, length] where all samples share it
    const Index square = line.length * line.length;
    const auto* from = allowed.data() + (file.tensor("allowed").dim(0) == 1 ? 0 : b * square);
    reference.allowed.insert(reference.allowed.end(), from, from + square);
  }
  reference.line = std::move(line);
  return reference;
}

}  // namespace plasmid::test
