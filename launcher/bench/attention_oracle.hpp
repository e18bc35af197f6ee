#pragma once
#include <string>
#include <vector>

#include "attention/mask/mask.hpp"
#include "runtime/base/index.hpp"

namespace plasmid::bench {

struct AttentionShape {
  Index tokens = 0, heads = 0, kv_heads = 0, d = 0;  // of the whole line: one document
  Pattern pattern;
  float scale() const;   // 1 / sqrt(d)
  double pairs() const;  // of query and key that the pattern admits
  // FLOPs of "forward", "backward" or "both": of the pairs alone, 4 d a pair and head forward, 10 d backward, where the
  // scores are formed again.
  double flops(const std::string& pass) const;
};

// Of each query: natural log of its sum of exponentials, and the sum of dout * out. [tokens, heads].
struct QuerySums {
  std::vector<double> lse, delta;
};

// An attention problem whose inputs are functions of (tensor, token, head, channel), uniform with variance 1, so that
// any rank can form any row of any of them; and its results row by row in f64, from the definition.
class AttentionOracle {
 public:
  explicit AttentionOracle(const AttentionShape& shape) : shape_(shape) {}
  const AttentionShape& shape() const { return shape_; }

  enum Tensor { kQ, kK, kV, kDout };
  std::vector<float> input(Tensor, Index token, Index head) const;  // [d]

  // A sum in f64, and the bound of its error where it is formed in f32: epsilon times the sum of its absolute terms,
  // times what rounding adds up to over the channels of a score and the terms.
  struct Sum {
    double value = 0, size = 0;
    void add(double term) { value += term, size += term < 0 ? -term : term; }
  };
  double tolerance(const Sum& sum, Index terms) const;

  struct Query {
    double lse = 0;
    std::vector<Sum> out, dq;  // [d]
    Index keys = 0;            // that it sees
  };
  Query query(Index token, Index head) const;  // O(keys d)

  struct Key {
    std::vector<Sum> dk, dv;  // [d]
    Index queries = 0;        // that see it, over the heads that share it
  };
  Key key(Index token, Index kv_head, const QuerySums& all) const;  // O(queries d)

 private:
  AttentionShape shape_;
};

}  // namespace plasmid::bench
