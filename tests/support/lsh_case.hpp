// Problems of LSH attention on a whole line, and the errors that answers are held to.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "attention/lsh/lsh.hpp"

namespace plasmid::test {

struct LshCase {
  std::string name;
  Index heads = 1, d = 0;
  float scale = 1;
  LshOptions options;
  std::vector<Index> document_begin;
  std::vector<float> qk, v, dout;      // [tokens, heads, d]
  std::vector<std::uint16_t> buckets;  // [heads, rounds, tokens]

  Index tokens() const { return document_begin.back(); }
  LshInput input() const;  // borrows
  Shape shape() const { return {tokens(), heads, d}; }
  ConstView rows(const std::vector<float>& words) const { return view_of(std::span(words)).reshape(shape()); }
  View rows(std::vector<float>& words) const { return view_of(std::span(words)).reshape(shape()); }
};

// Standard normal tensors, scale 1/sqrt(d), buckets drawn at random below `bucket_count`.
LshCase random_lsh_case(std::vector<Index> document_begin, Index heads, Index d, Index bucket_count, LshOptions,
                        unsigned seed);

template <class Real>
struct LshResult {
  std::vector<Real> out, dqk, dv;  // [tokens, heads, d]
  std::vector<double> lse;         // [tokens, heads]
};

LshResult<float> run_lsh_reference(const LshCase&);

struct LshReference {  // one case of the reference numbers, its batch laid end to end as documents
  LshCase problem;
  LshResult<double> result;
  std::vector<double> round_lse;  // [heads, rounds, tokens]
  std::vector<float> rotations;   // [heads, rounds, d, buckets / 2]
  Index bucket_count = 0;
};
std::vector<std::string> lsh_reference_names();
LshReference read_lsh_reference(const std::string& name);

// Each tensor's relative error (Euclidean norm) is at most `tolerance`; elements that are zero in `wanted` are within
// tolerance of zero, in units of the tensor's root mean square. The terms of dqk, which may all cancel, are about as
// large as dout: what is less than that counts as that.
template <class Real>
void expect_lsh_close(const LshResult<float>& got, const LshResult<Real>& wanted, const LshCase&, double tolerance,
                      const std::string& what);

}  // namespace plasmid::test
