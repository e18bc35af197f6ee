// One training step of a small GPT-2 on one thread: forward, backward, AdamW; six layers, width 384, six heads, bytes
// as tokens. FLOPs: 6 for each weight of a matrix product and token, and causal attention counted half, 6 L N^2 C.
// Prints the rate beside the FMA loop of the same run, the share of each phase, and the peak of the ledger.
//   bench_step [avx2 | sse4] [tokens]...   (4096; the widest instructions there are)
#include <omp.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

#include "attention/model/language_model.hpp"
#include "parallel/comm/self.hpp"
#include "runtime/device/simd.hpp"
#include "runtime/nn/whole_store.hpp"
#include "runtime/optim/optimizer.hpp"
#include "tests/bench/ceilings.hpp"

namespace plasmid::bench {
namespace {

class Training {
 public:
  explicit Training(Index tokens) : n_(tokens), shards_{{{0, tokens}}}, document_begin_{0, tokens} {
    const auto n = static_cast<std::size_t>(tokens);
    for (std::size_t i = 0; i <= n; ++i) {
      const auto token = static_cast<std::int32_t>((i * i / 7 + i % 11) % 256);  // a rule to learn
      if (i < n) tokens_.push_back(token), position_.push_back(static_cast<std::int32_t>(i));
      if (i > 0) labels_.push_back(token);
    }
    zeros_.assign(n, 0);
    map_.position = view_of(std::span<const std::int32_t>(position_));
    map_.document = map_.sample = view_of(std::span<const std::int32_t>(zeros_));
    map_.shards = shards_;
    map_.document_begin = document_begin_;
    store_.initialize(1);
    moments_.resize(2 * static_cast<std::size_t>(store_.size()));
    ledger_.add("moments", static_cast<Index>(moments_.size() * sizeof(float)));
  }

  double step() {  // the mean loss before the update
    Context context{stream_, saved_, scratch_, store_, {}, map_, {}, nullptr, nullptr};
    const ConstView x[] = {view_of(std::span<const std::int32_t>(tokens_)),
                           view_of(std::span<const std::int32_t>(labels_))};
    double loss = 0;
    std::int64_t counted = 0;
    const View y[] = {view_of(std::span(&loss, 1)), view_of(std::span(&counted, 1))};
    const double start = thread_cpu_seconds();
    SavedPtr saved = model_->forward(context, Keep::all, x, y);
    const double middle = thread_cpu_seconds();
    const double one = 1;
    const ConstView dy[] = {view_of(std::span<const double>(&one, 1))};
    const Gradient dx[] = {{{}, Write::skip}, {{}, Write::skip}};
    model_->backward(context, std::move(saved), x, dy, dx);
    const double end = thread_cpu_seconds();
    const auto half = static_cast<std::size_t>(store_.size());
    adamw_step({}, ++steps_, 1 / static_cast<float>(counted), store_.weights(), store_.gradients(),
               std::span(moments_).first(half), std::span(moments_).last(half));
    forward_ += middle - start, backward_ += end - middle, update_ += thread_cpu_seconds() - end;
    return loss / static_cast<double>(counted);
  }

  double flops() const {
    double weights = 0;
    for (const ParameterPtr& parameter : store_.parameters())
      if (parameter->decays() && parameter->name != "transformer.wpe.weight")
        weights += static_cast<double>(parameter->shape.count());  // the tied embedding is the head
    const auto n = static_cast<double>(n_);
    return n * (6 * weights + 6 * static_cast<double>(shape_.layers * shape_.width) * n);
  }

  void report() const {
    const auto steps = static_cast<double>(steps_);
    std::printf("  forward %.2f s, backward %.2f s, AdamW %.3f s a step; peak %s (saved %s, scratch %s)\n",
                forward_ / steps, backward_ / steps, update_ / steps, human_bytes(ledger_.peak_bytes()).c_str(),
                human_bytes(saved_.peak_bytes()).c_str(), human_bytes(scratch_.peak_bytes()).c_str());
  }

 private:
  Index n_;
  std::vector<std::vector<Range>> shards_;
  std::vector<Index> document_begin_;
  std::vector<std::int32_t> tokens_, labels_, position_, zeros_;
  TokenMap map_;
  ModelShape shape_{.layers = 6, .width = 384, .heads = 6, .positions = n_, .vocabulary = 256};
  Ledger ledger_;
  Arena saved_{Arena::Kind::stack, ledger_}, scratch_{Arena::Kind::pool, ledger_}, pool_{Arena::Kind::pool, ledger_};
  Stream stream_;
  std::unique_ptr<Communicator> self_ = make_self_communicator();
  std::unique_ptr<LanguageModel> model_ = make_language_model(shape_, *self_);
  WholeStore store_{*model_, pool_};
  std::vector<float> moments_;
  Index steps_ = 0;
  double forward_ = 0, backward_ = 0, update_ = 0;
};

void measure(Index tokens) {
  Training training(tokens);
  const double first = training.step(), second = training.step();
  PLASMID_CHECK(std::abs(first - std::log(256.0)) < 1) << "a fresh model's loss is " << first << ", not near log 256";
  PLASMID_CHECK(second < first) << "the loss does not fall: " << first << ", " << second;
  report_flops(
      "step N " + std::to_string(tokens), training.flops(), [&] { training.step(); }, 3);
  std::printf("  %.3f TFLOP a step\n", training.flops() * 1e-12);
  training.report();
}

}  // namespace
}  // namespace plasmid::bench

int main(int argc, char** argv) {
  using namespace plasmid;
  omp_set_num_threads(1);
  std::vector<Index> lengths;
  for (const std::string argument : std::span(argv + 1, static_cast<std::size_t>(argc - 1))) {
    if (argument == "avx2" || argument == "sse4")
      limit_simd(argument == "avx2" ? Simd::avx2 : Simd::sse4);
    else
      lengths.push_back(std::atoll(argument.c_str()));
  }
  if (lengths.empty()) lengths = {4096};
  std::printf("%s\n", name_of(simd_in_use()).c_str());
  for (const Index tokens : lengths) bench::measure(tokens);
  return 0;
}
