// LSH attention on one thread, without projections: hashing, and attention forward and backward. FLOPs of attention are
// 4 d a pair forward and 10 d backward; "pairs" are all of a chunk with itself and the one before, "seen" only those
// that a causal mask admits (blocks of pairs that it hides are skipped).
//   bench_lsh [AVX2 | SSE4] [tokens]...   (the widest instructions; 16384)
#include <omp.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "attention/lsh/hash.hpp"
#include "attention/lsh/lsh_attention.hpp"
#include "attention/lsh/order.hpp"
#include "parallel/comm/self.hpp"
#include "runtime/device/simd.hpp"
#include "tests/bench/report.hpp"

namespace plasmid::bench {
namespace {

class Problem {
 public:
  Problem(Index n, Index heads, Index d, const LshOptions& options)
      : n_(n),
        heads_(heads),
        d_(d),
        options_(options),
        shape_(choose_lsh_buckets(n, options.chunk)),
        begin_{0, n},
        shards_{{{0, n}}},
        attention_(*self_, options, shape_) {
    std::mt19937 bits(1);
    std::normal_distribution<float> draw;
    for (std::vector<float>* tensor : {&qkv_, &dout_}) {
      tensor->resize(at(n * heads * d * (tensor == &qkv_ ? 2 : 1)));
      for (float& x : *tensor) x = draw(bits);
    }
    for (std::vector<float>* tensor : {&out_, &dqk_, &dv_}) tensor->resize(dout_.size());
    lse_.resize(at(n * heads));
    buckets_.resize(at(heads * options.rounds * n));
    rotations_.resize(at(heads * d * options.rounds * shape_.columns()));
    draw_lsh_rotations(1, 0, options.rounds, shape_, rotations());
    map_.document_begin = begin_, map_.shards = shards_;
    plan_ = attention_.plan(map_);
  }

  void hash() { lsh_hash(part(0), rotations(), options_.rounds, shape_, buckets(), scratch_, stream_); }
  void forward() {
    attention_.forward(plan_, part(0), part(1), buckets(), scale(), rows(out_), lse(), scratch_, stream_);
  }
  void backward() {
    attention_.backward(plan_, part(0), part(1), buckets(), scale(), rows(out_), lse(), rows(dout_), rows(dqk_),
                        rows(dv_), scratch_, stream_);
  }

  // The whole against the definition, on a line short enough for it.
  void check() {
    hash(), forward(), backward();
    std::vector<float> out(out_.size()), dqk(out_), dv(out_);
    std::vector<double> exact_lse(lse_.size());
    const LshInput input{part(0), part(1), buckets(), scale(), begin_};
    lsh_reference_forward(input, options_, rows(out), view_of(std::span(exact_lse)).reshape({n_, heads_}));
    lsh_reference_backward(input, options_, rows(dout_), rows(dqk), rows(dv));
    for (const auto& [found, wanted] : {std::pair{&out_, &out}, {&dqk_, &dqk}, {&dv_, &dv}}) {
      double error = 0, size = 0;
      for (std::size_t i = 0; i < out.size(); ++i) {
        const double apart = static_cast<double>((*found)[i]) - (*wanted)[i];
        error += apart * apart, size += static_cast<double>((*wanted)[i]) * (*wanted)[i];
      }
      PLASMID_CHECK(error <= 4e-12 * size) << "off by " << std::sqrt(error / size);
    }
  }

  double pairs() const {
    double sum = 0;
    for (const LshChunk& chunk : plan_.chunks)
      sum += static_cast<double>(chunk.places.size()) *
             static_cast<double>(chunk.places.size() +
                                 (chunk.previous < 0 ? 0 : plan_.chunk(chunk.previous).places.size()));
    return sum * static_cast<double>(options_.rounds * heads_);
  }
  double seen() const {
    if (!options_.causal) return pairs();
    double sum = 0;
    std::vector<std::int32_t> order(at(n_)), counts(at(shape_.count()));
    for (Index set = 0; set < heads_ * options_.rounds; ++set) {
      detail::sort_by_bucket(std::span(buckets_).subspan(at(set * n_), at(n_)), begin_, order, counts);
      for (const LshChunk& chunk : plan_.chunks)
        for (Index i = chunk.places.begin; i < chunk.places.end; ++i) {
          const auto count = [&](Range keys) {
            for (Index j = keys.begin; j < keys.end; ++j) sum += order[at(j)] <= order[at(i)];
          };
          count(chunk.places);
          if (chunk.previous >= 0) count(plan_.chunk(chunk.previous).places);
        }
    }
    return sum;
  }
  double hash_flops() const { return 2.0 * static_cast<double>(rotations_.size()) * static_cast<double>(n_); }
  Index scratch_peak() const { return scratch_.peak_bytes(); }

 private:
  static std::size_t at(Index i) { return static_cast<std::size_t>(i); }
  float scale() const { return 1 / std::sqrt(static_cast<float>(d_)); }
  View rows(std::vector<float>& x) { return view_of(std::span(x)).reshape({n_, heads_, d_}); }
  View rotations() { return view_of(std::span(rotations_)).reshape({heads_, d_, options_.rounds * shape_.columns()}); }
  View buckets() { return view_of(std::span(buckets_)).reshape({heads_, options_.rounds, n_}); }
  View lse() { return view_of(std::span(lse_)).reshape({n_, heads_}); }
  View part(Index i) {  // qk and v lie in one projection's output
    const View all = view_of(std::span(qkv_)).reshape({n_, 2 * heads_ * d_});
    return all.slice(1, i * heads_ * d_, (i + 1) * heads_ * d_).reshape({n_, heads_, d_});
  }

  Index n_, heads_, d_;
  LshOptions options_;
  LshBuckets shape_;
  std::vector<Index> begin_;
  std::vector<std::vector<Range>> shards_;
  TokenMap map_;
  std::unique_ptr<Communicator> self_ = make_self_communicator();
  LshAttention attention_;
  LshPlan plan_;
  std::vector<float> qkv_, dout_, out_, dqk_, dv_, rotations_;
  std::vector<double> lse_;
  std::vector<std::uint16_t> buckets_;
  Ledger ledger_;
  Arena scratch_{Arena::Kind::pool, ledger_};
  Stream stream_;
};

void measure(Index n, Index d, bool causal) {
  Problem(500, 2, d, {2, 64, causal}).check();
  Problem problem(n, 4, d, {4, 64, causal});
  const std::string name =
      std::string(causal ? "causal" : "both ways") + " N " + std::to_string(n) + ", 4 x " + std::to_string(d);
  const double width = static_cast<double>(d);
  report_flops(name + " hash", problem.hash_flops(), [&] { problem.hash(); });
  report_flops(name + " forward, pairs", 4 * width * problem.pairs(), [&] { problem.forward(); });
  report_flops(name + " backward, pairs", 10 * width * problem.pairs(), [&] { problem.backward(); });
  const auto both = [&] { problem.forward(), problem.backward(); };
  report_flops(name + " both, pairs", 14 * width * problem.pairs(), both);
  if (causal) report_flops(name + " both, seen", 14 * width * problem.seen(), both);
}

}  // namespace
}  // namespace plasmid::bench

int main(int argc, char** argv) {
  using namespace plasmid;
  omp_set_num_threads(1);
  std::vector<Index> lengths;
  for (const std::string argument : std::span(argv + 1, static_cast<std::size_t>(argc - 1)))
    if (argument == "AVX2" || argument == "SSE4") {
      limit_simd(argument == "AVX2" ? Simd::avx2 : Simd::sse4);
    } else {
      lengths.push_back(std::atoll(argument.c_str()));
    }
  std::printf("%s\n", name_of(simd_in_use()).c_str());
  if (lengths.empty()) lengths = {16384};
  for (const Index n : lengths)
    for (const bool causal : {false, true}) bench::measure(n, 64, causal);
  return 0;
}
