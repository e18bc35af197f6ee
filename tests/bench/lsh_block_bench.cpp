// The LSH self-attention module, projections and hashing included, forward and backward: width 256, 4 heads, chunk 64,
// 4 rounds, causal, one document. Prints tokens a second by wall time on the threads of OMP_NUM_THREADS, the FMA loop
// of the same run, and peak bytes. Results of the kernels are bench_lsh's to check; here the module's gradient is
// compared with a difference of its output along it, buckets kept.
//   bench_lsh_block [tokens]...   (131072)
#include <omp.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "attention/block/lsh_self_attention.hpp"
#include "launcher/bench/ceilings.hpp"
#include "launcher/bench/peak_resident.hpp"
#include "parallel/comm/self.hpp"
#include "runtime/device/simd.hpp"
#include "runtime/nn/whole_store.hpp"

namespace plasmid::bench {
namespace {

constexpr Index kWidth = 256, kHeads = 4, kChunk = 64, kRounds = 4;

class Layer {
 public:
  explicit Layer(Index tokens) : n_(tokens), shards_{{{0, tokens}}}, begin_{0, tokens} {
    std::mt19937 bits(1);
    std::normal_distribution<float> draw;
    for (std::vector<float>* tensor : {&x_, &dy_}) {
      tensor->resize(static_cast<std::size_t>(tokens * kWidth));
      for (float& value : *tensor) value = draw(bits);
    }
    y_.resize(x_.size()), dx_.resize(x_.size());
    position_.resize(static_cast<std::size_t>(tokens));
    map_.position = view_of(std::span<const std::int32_t>(position_));
    map_.shards = shards_, map_.document_begin = begin_;
    store_.initialize(1);
  }

  SavedPtr forward(Keep keep, const Saved* replay = nullptr) {
    Context context = this->context();
    return module_.forward(context, keep, rows(x_), rows(y_), replay);
  }
  void step() {
    SavedPtr saved = forward(Keep::all);
    Context context = this->context();
    module_.backward(context, std::move(saved), rows(x_), rows(dy_), Gradient{rows(dx_)});
  }

  void check() {
    step();
    const SavedPtr buckets = forward(Keep::decisions);
    const std::vector<float> base = x_;
    double length = 0;
    for (const float g : dx_) length += static_cast<double>(g) * g;
    const double step = 0.05 / std::sqrt(length / static_cast<double>(dx_.size()));
    const auto phi = [&](double t) {
      for (std::size_t i = 0; i < x_.size(); ++i) x_[i] = static_cast<float>(base[i] + t * dx_[i]);
      (void)forward(Keep::nothing, buckets.get());
      double sum = 0;
      for (std::size_t i = 0; i < y_.size(); ++i) sum += static_cast<double>(y_[i]) * dy_[i];
      return sum;
    };
    const double near = (phi(step) - phi(-step)) / (2 * step), far = (phi(2 * step) - phi(-2 * step)) / (4 * step);
    x_ = base;
    PLASMID_CHECK(std::abs((4 * near - far) / 3 / length - 1) < 1e-3) << "the derivative is " << near / length;
  }

  double flops() const { return module_.cost({{n_, kWidth}}, Keep::all).flops; }
  Index peak() const { return ledger_.peak_bytes(); }
  Index tensors() const { return static_cast<Index>(4 * x_.size() * sizeof(float)); }

 private:
  Context context() { return {stream_, saved_, scratch_, store_, {1, 0, 0}, map_, {}, nullptr, nullptr}; }
  View rows(std::vector<float>& words) { return view_of(std::span(words)).reshape({n_, kWidth}); }

  Index n_;
  std::vector<std::vector<Range>> shards_;
  std::vector<Index> begin_;
  std::vector<std::int32_t> position_;
  TokenMap map_;
  std::vector<float> x_, y_, dx_, dy_;
  Ledger ledger_;
  Arena saved_{Arena::Kind::stack, ledger_}, scratch_{Arena::Kind::pool, ledger_}, pool_{Arena::Kind::pool, ledger_};
  Stream stream_;
  std::unique_ptr<Communicator> self_ = make_self_communicator();
  LshSelfAttention module_{{kHeads,
                            kWidth / kHeads,
                            {make_affine("qk", kWidth, kWidth, {ops::WeightLayout::out_in, false, 0.0625f}),
                             make_affine("v", kWidth, kWidth, {ops::WeightLayout::out_in, false, 0.0625f})},
                            make_affine("out", kWidth, kWidth, {ops::WeightLayout::out_in, true, 0.0625f})},
                           make_lsh_group(*self_, {kRounds, kChunk}, choose_lsh_buckets(n_, kChunk))};
  WholeStore store_{module_, pool_};
};

void measure(Index tokens) {
  Layer(std::min<Index>(tokens, 1000)).check();
  const int threads = omp_get_max_threads();
  const double fma = measure_ceilings(threads).fma;
  const PeakResident resident;
  Layer layer(tokens);
  const Series series = repeat(5, [&] { layer.step(); });
  const Spread seconds = series.spread(Clock::wall);
  std::printf("%7ld tokens, %d threads: %.3f s (%.3f to %.3f), %.0f tokens/s, %.3f of the FMA loop's %.1f GFLOP/s; ",
              static_cast<long>(tokens), threads, seconds.median, seconds.low, seconds.high,
              static_cast<double>(tokens) / seconds.median, layer.flops() / seconds.median / fma, fma * 1e-9);
  constexpr double kMiB = 1 << 20;
  std::printf("arenas at most %.0f MiB, x, y and gradients %.0f MiB, resident at most %.0f MiB\n",
              static_cast<double>(layer.peak()) / kMiB, static_cast<double>(layer.tensors()) / kMiB,
              static_cast<double>(resident.bytes()) / kMiB);
  std::fflush(stdout);
}

}  // namespace
}  // namespace plasmid::bench

int main(int argc, char** argv) {
  using namespace plasmid;
  std::printf("%s\n", name_of(simd_in_use()).c_str());
  std::vector<Index> lengths;
  for (int i = 1; i < argc; ++i) lengths.push_back(std::atoll(argv[i]));
  if (lengths.empty()) lengths = {131'072};
  for (const Index tokens : lengths) bench::measure(tokens);
  return 0;
}
