#include "tests/support/lsh_case.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "runtime/io/safetensors.hpp"
#include "tests/support/reference.hpp"

namespace plasmid::test {
namespace {

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

// [batch, heads, length, d] to [batch * length, heads, d]
template <class T>
std::vector<T> end_to_end(ConstView tensor) {
  const Index batch = tensor.dim(0), heads = tensor.dim(1), length = tensor.dim(2), d = tensor.dim(3);
  const T* from = tensor.ptr<T>();
  std::vector<T> line(at(tensor.count()));
  for (Index b = 0; b < batch; ++b)
    for (Index h = 0; h < heads; ++h)
      for (Index i = 0; i < length * d; ++i) line[at(((b * length + i / d) * heads + h) * d + i % d)] = *from++;
  return line;
}

// [batch, heads, rounds, length] to [heads, rounds, batch * length]
template <class To, class From>
std::vector<To> by_round(ConstView tensor) {
  const Index batch = tensor.dim(0), sets = tensor.dim(1) * tensor.dim(2), length = tensor.dim(3);
  const From* from = tensor.ptr<From>();
  std::vector<To> line(at(tensor.count()));
  for (Index b = 0; b < batch; ++b)
    for (Index s = 0; s < sets; ++s)
      for (Index i = 0; i < length; ++i) line[at((s * batch + b) * length + i)] = static_cast<To>(*from++);
  return line;
}

nlohmann::json cases() {
  std::ifstream file(reference_folder() / "lsh_attention" / "cases.json");
  return nlohmann::json::parse(file).at("cases");
}

template <class Real>
void expect_tensor(const std::vector<float>& got, const std::vector<Real>& wanted, double floor, double tolerance,
                   const std::string& what) {
  ASSERT_EQ(got.size(), wanted.size()) << what;
  double error = 0, size = 0, stray = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double difference = static_cast<double>(got[i]) - static_cast<double>(wanted[i]);
    error += difference * difference, size += static_cast<double>(wanted[i]) * static_cast<double>(wanted[i]);
    if (wanted[i] == 0) stray = std::max(stray, std::abs(difference));
  }
  size = std::max(size, floor);
  EXPECT_LE(std::sqrt(error), tolerance * std::sqrt(size)) << what << ": " << std::sqrt(error / size);
  EXPECT_LE(stray, tolerance * std::sqrt(size / static_cast<double>(got.size()))) << what << " where it is zero";
}

}  // namespace

LshInput LshCase::input() const {
  return {rows(qk), rows(v), view_of(std::span(buckets)).reshape({heads, options.rounds, tokens()}), scale,
          document_begin};
}

LshCase random_lsh_case(std::vector<Index> document_begin, Index heads, Index d, Index bucket_count, LshOptions options,
                        unsigned seed) {
  LshCase problem;
  problem.heads = heads, problem.d = d, problem.scale = 1 / std::sqrt(static_cast<float>(d));
  problem.options = options;
  problem.document_begin = std::move(document_begin);
  std::mt19937 bits(seed);
  std::normal_distribution<float> draw;
  for (std::vector<float>* tensor : {&problem.qk, &problem.v, &problem.dout}) {
    tensor->resize(at(problem.tokens() * heads * d));
    for (float& x : *tensor) x = draw(bits);
  }
  problem.buckets.resize(at(heads * options.rounds * problem.tokens()));
  for (std::uint16_t& bucket : problem.buckets)
    bucket = static_cast<std::uint16_t>(bits() % static_cast<unsigned>(bucket_count));
  return problem;
}

LshResult<float> run_lsh_reference(const LshCase& problem) {
  LshResult<float> result;
  for (auto* tensor : {&result.out, &result.dqk, &result.dv}) tensor->resize(problem.qk.size());
  result.lse.resize(at(problem.tokens() * problem.heads));
  lsh_reference_forward(problem.input(), problem.options, problem.rows(result.out),
                        view_of(std::span(result.lse)).reshape({problem.tokens(), problem.heads}));
  lsh_reference_backward(problem.input(), problem.options, problem.rows(problem.dout), problem.rows(result.dqk),
                         problem.rows(result.dv));
  return result;
}

std::vector<std::string> lsh_reference_names() {
  std::vector<std::string> names;
  const nlohmann::json all = cases();
  for (const auto& [name, ignored] : all.items()) names.push_back(name);
  return names;
}

LshReference read_lsh_reference(const std::string& name) {
  const nlohmann::json about = cases().at(name);
  const SafetensorsFile file(reference_folder() / "lsh_attention" / (name + ".safetensors"));
  LshReference reference;
  LshCase& problem = reference.problem;
  problem.name = name;
  problem.heads = about.at("heads"), problem.d = about.at("head_size");
  problem.scale = about.at("scale").get<float>();
  problem.options.rounds = about.at("rounds"), problem.options.chunk = about.at("chunk");
  problem.options.causal = about.at("causal"), problem.options.same_bucket = about.at("same_bucket");
  problem.options.previous = about.at("previous") == "sorted" ? PreviousChunk::sorted : PreviousChunk::round;
  for (Index b = 0; b <= about.at("batch").get<Index>(); ++b)
    problem.document_begin.push_back(b * about.at("length").get<Index>());
  problem.qk = end_to_end<float>(file.tensor("qk")), problem.v = end_to_end<float>(file.tensor("v"));
  problem.dout = end_to_end<float>(file.tensor("dout"));
  problem.buckets = by_round<std::uint16_t, std::int32_t>(file.tensor("buckets"));
  reference.result.out = end_to_end<double>(file.tensor("out"));
  reference.result.dqk = end_to_end<double>(file.tensor("dqk"));
  reference.result.dv = end_to_end<double>(file.tensor("dv"));
  reference.round_lse = by_round<double, double>(file.tensor("round_lse"));
  const auto rotations = file.tensor("rotations").flat<float>();
  reference.rotations.assign(rotations.begin(), rotations.end());
  reference.bucket_count = about.at("buckets");
  return reference;
}

template <class Real>
void expect_lsh_close(const LshResult<float>& got, const LshResult<Real>& wanted, const LshCase& problem,
                      double tolerance, const std::string& what) {
  double dout = 0;
  for (const float x : problem.dout) dout += static_cast<double>(x) * x;
  expect_tensor(got.out, wanted.out, 0, tolerance, what + " out");
  expect_tensor(got.dqk, wanted.dqk, dout, tolerance, what + " dqk");
  expect_tensor(got.dv, wanted.dv, 0, tolerance, what + " dv");
}
template void expect_lsh_close(const LshResult<float>&, const LshResult<float>&, const LshCase&, double,
                               const std::string&);
template void expect_lsh_close(const LshResult<float>&, const LshResult<double>&, const LshCase&, double,
                               const std::string&);

}  // namespace plasmid::test
