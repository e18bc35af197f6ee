#include "tests/support/conformance_rig.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

namespace plasmid::test {
namespace {

constexpr std::size_t kGuard = 64;  // bytes
constexpr std::byte kGuardByte{0xA5}, kNan{0xFF};
// Far from any initial value that would hide a gradient (zero biases, unit gains).
constexpr float kSpread = 0.2f;

bool is_float(const TensorSpec& spec) { return spec.dtype == DType::f32 || spec.dtype == DType::f64; }

void fill_normal(View view, std::uint64_t seed, std::uint64_t stream, double mean, double deviation) {
  const std::vector<double> values = random_direction(static_cast<std::size_t>(view.count()), seed, stream);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double value = mean + deviation * values[i];
    if (view.dtype == DType::f32)
      view.flat<float>()[i] = static_cast<float>(value);
    else
      view.flat<double>()[i] = value;
  }
}

}  // namespace

GuardedTensor::GuardedTensor(const TensorSpec& spec)
    : memory_(static_cast<std::size_t>(spec.bytes()) + 2 * kGuard, kGuardByte), view_(memory_.data() + kGuard, spec) {
  std::ranges::fill(bytes(), std::byte{0});
}

bool GuardedTensor::intact() const {
  const auto guard = [](std::byte byte) { return byte == kGuardByte; };
  return std::all_of(memory_.begin(), memory_.begin() + kGuard, guard) &&
         std::all_of(memory_.end() - kGuard, memory_.end(), guard);
}

std::vector<std::byte> copy_of(std::span<const std::byte> bytes) { return {bytes.begin(), bytes.end()}; }

std::vector<std::byte> bits_of(std::vector<GuardedTensor>& tensors) {
  std::vector<std::byte> all;
  for (GuardedTensor& tensor : tensors) all.insert(all.end(), tensor.bytes().begin(), tensor.bytes().end());
  return all;
}

double dot(std::span<const double> a, std::span<const double> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

double norm(std::span<const double> a) { return std::sqrt(dot(a, a)); }

std::vector<double> doubles(ConstView view) {
  if (view.dtype == DType::f64) {
    const auto flat = view.flat<double>();
    return {flat.begin(), flat.end()};
  }
  const auto flat = view.flat<float>();
  return {flat.begin(), flat.end()};
}

std::vector<double> random_direction(std::size_t n, std::uint64_t seed, std::uint64_t stream) {
  std::seed_seq mixed{seed, stream};
  std::mt19937_64 bits(mixed);
  std::normal_distribution<double> draw;
  std::vector<double> values(n);
  for (double& value : values) value = draw(bits);
  return values;
}

ConformanceRig::ConformanceRig(Module& m, const ConformanceOptions& o) : module(m), options(o), store(m, pool) {
  const std::uint64_t own = 1000 * (o.rank + 1);
  for (std::size_t i = 0; i < o.in.size(); ++i) {
    x.emplace_back(o.in[i]);
    dx.emplace_back(o.in[i]);
    if (is_float(o.in[i])) fill_normal(x[i].view(), o.seed, own + i, 0, 1);
    if (o.in[i].dtype != DType::i32) continue;
    for (Index element = 0; element < o.in[i].shape.count(); ++element)
      x[i].view().flat<std::int32_t>()[static_cast<std::size_t>(element)] = o.integer(i, element);
  }
  for (const TensorSpec& spec : module.outputs(o.in)) {
    y.emplace_back(spec);
    dy.emplace_back(spec);
    if (is_float(spec)) fill_normal(dy.back().view(), o.seed, own + 100 + dy.size(), 0, 1);
  }
  std::uint64_t stream_id = 0;
  for (const ParameterPtr& parameter : store.parameters())
    fill_normal(store.weight(*parameter), o.seed, ++stream_id, parameter->initial.mean,
                std::max(parameter->initial.deviation, kSpread));
}

Context ConformanceRig::context() {
  return {stream, saved, scratch, store, {options.seed, 3, 0}, *options.tokens, {}, sink, nullptr, options.training};
}

std::vector<ConstView> ConformanceRig::const_views(std::vector<GuardedTensor>& tensors) {
  std::vector<ConstView> views;
  for (GuardedTensor& tensor : tensors) views.push_back(tensor.view());
  return views;
}

SavedPtr ConformanceRig::forward(Keep keep, const Saved* replay) {
  std::vector<View> out;
  for (GuardedTensor& tensor : y) {
    std::ranges::fill(tensor.bytes(), kNan);
    out.push_back(tensor.view());
  }
  Context ours = context();
  return module.forward(ours, keep, const_views(x), out, replay);
}

SavedPtr ConformanceRig::forward_and_clear(Keep keep) {
  std::ranges::fill(store.gradients(), 0.0f);
  return forward(keep);
}

void ConformanceRig::backward(SavedPtr from, Write write) {
  std::vector<Gradient> gradients;
  for (GuardedTensor& tensor : dx) {
    const bool differentiable = is_float(tensor.view().spec());
    if (differentiable && write == Write::overwrite) std::ranges::fill(tensor.bytes(), kNan);
    gradients.push_back({differentiable ? tensor.view() : View(), differentiable ? write : Write::skip});
  }
  Context ours = context();
  module.backward(ours, std::move(from), const_views(x), const_views(dy), gradients);
}

double ConformanceRig::phi() {
  double sum = 0;
  for (std::size_t i = 0; i < y.size(); ++i)
    if (is_float(y[i].view().spec())) sum += dot(doubles(y[i].view()), doubles(dy[i].view()));
  if (options.sum) options.sum({&sum, 1});
  return sum;
}

}  // namespace plasmid::test
