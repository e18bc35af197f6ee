#include "attention/ring/running.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "attention/kernel/operands.hpp"
#include "runtime/device/parallel_for.hpp"

namespace plasmid::detail {
namespace {

constexpr Index kGrain = 64;  // queries a thread is worth waking for
constexpr double kNone = -std::numeric_limits<double>::infinity();

// Row by row, in f64 but for the channels:
//   out = out_a - w (out_a - out_b), w = 1 / (1 + exp(lse_a - lse_b)); lse = logaddexp(lse_a, lse_b)
void merge_row(float* out, const float* part, Index d, double& lse, double part_lse) {
  if (part_lse == kNone) return;
  if (lse == kNone) {
    std::copy_n(part, d, out);
    lse = part_lse;
    return;
  }
  const auto weight = static_cast<float>(1 / (1 + std::exp(lse - part_lse)));
  for (Index c = 0; c < d; ++c) out[c] -= weight * (out[c] - part[c]);
  lse = std::max(lse, part_lse) + std::log1p(std::exp(-std::abs(lse - part_lse)));
}

}  // namespace

RunningSums::RunningSums(View out, View lse, Arena& scratch) : out_(out), lse_(lse), scratch_(scratch) {
  attention_start(out, lse);
}

RunningSums::Part RunningSums::part() {
  if (first_) return {out_, lse_};
  if (!part_out_) {
    part_out_ = scratch_.take({out_.shape}, "ring.part");
    part_lse_ = scratch_.take({lse_.shape}, "ring.part");
    exact_lse_ = scratch_.take({lse_.shape, DType::f64}, "ring.part");
    const ConstRows lse = rows_of(ConstView(lse_));
    auto* exact = exact_lse_.view().ptr<double>();
    for (Index i = 0; i < lse_.dim(0); ++i)
      for (Index h = 0; h < lse_.dim(1); ++h) *exact++ = *lse.at(i, h);
  }
  attention_start(part_out_.view(), part_lse_.view());
  return {part_out_.view(), part_lse_.view()};
}

void RunningSums::merge() {
  if (first_) {
    first_ = false;
    return;
  }
  const Index heads = out_.dim(1), d = out_.dim(2);
  const MutableRows out = rows_of(out_), lse = rows_of(lse_);
  const ConstRows part = rows_of(ConstView(part_out_.view())), part_lse = rows_of(ConstView(part_lse_.view()));
  auto* exact = exact_lse_.view().ptr<double>();
  parallel_for(out_.dim(0), kGrain, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i)
      for (Index h = 0; h < heads; ++h) {
        double& sum = exact[i * heads + h];
        merge_row(out.at(i, h), part.at(i, h), d, sum, *part_lse.at(i, h));
        *lse.at(i, h) = static_cast<float>(sum);
      }
  });
}

}  // namespace plasmid::detail
