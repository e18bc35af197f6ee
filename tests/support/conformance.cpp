#include "tests/support/conformance.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <sstream>

#include "tests/support/conformance_rig.hpp"

namespace plasmid::test {
namespace {

constexpr double kEpsilon = std::numeric_limits<float>::epsilon();

class Examination {
 public:
  Examination(Module& module, const ConformanceOptions& options) : rig_(module, options), options_(options) {}

  std::vector<std::string> run() {
    outputs();
    if (total(static_cast<double>(failures_.size())) != 0) return failures_;  // the others compare what was written
    accumulate();
    derivative();
    if (options_.linear) adjoint();
    for (const Keep keep : {Keep::decisions, Keep::core}) replay(keep);
    inference();
    announce();
    for (const Keep keep : {Keep::nothing, Keep::decisions, Keep::core, Keep::all}) cost(keep);
    if (rig_.saved.live_bytes() != 0) fail("returned") << rig_.saved.live_bytes() << " saved bytes are still taken";
    if (rig_.scratch.live_bytes() != 0) fail("returned") << rig_.scratch.live_bytes() << " scratch bytes still taken";
    return failures_;
  }

 private:
  class Line {  // one failure, put together with <<
   public:
    Line(std::vector<std::string>& to, const char* check) : to_(to) { text_ << check << ": "; }
    ~Line() { to_.push_back(text_.str()); }
    template <class T>
    Line& operator<<(const T& value) {
      text_ << value;
      return *this;
    }

   private:
    std::vector<std::string>& to_;
    std::ostringstream text_;
  };
  Line fail(const char* check) { return Line(failures_, check); }
  static bool is_f32(ConstView view) { return view.dtype == DType::f32; }

  void outputs();
  void accumulate();
  void derivative();
  void derivative_along(const std::string& name, View target, const std::vector<double>& gradient,
                        std::vector<double> direction);
  double difference(View target, const std::vector<double>& base, const std::vector<double>& direction, double step);
  void adjoint();
  void replay(Keep);
  void inference();
  void announce();
  void cost(Keep);
  std::vector<double> total(std::vector<double> local) {
    if (options_.sum) options_.sum(local);
    return local;
  }
  double total(double local) { return total(std::vector<double>{local})[0]; }

  ConformanceRig rig_;
  const ConformanceOptions& options_;
  std::vector<std::string> failures_;
  std::vector<std::byte> y_, dx_;           // of the first forward and backward
  std::vector<float> parameter_gradients_;  // likewise
};

void Examination::outputs() {
  SavedPtr saved = rig_.forward_and_clear(Keep::all);
  y_ = bits_of(rig_.y);
  for (std::size_t i = 0; i < rig_.y.size(); ++i) {
    const ConstView y = rig_.y[i].view();
    if (!rig_.y[i].intact()) fail("outputs") << "output " << i << ": written beyond its end";
    if (y.dtype != DType::f32 && y.dtype != DType::f64) continue;
    for (const double value : doubles(y))
      if (!std::isfinite(value)) {
        fail("outputs") << "output " << i << " " << to_string(y.shape) << " is not written whole, or not finite";
        break;
      }
  }
  if (total(static_cast<double>(failures_.size())) != 0) return;
  rig_.backward(std::move(saved));
  dx_ = bits_of(rig_.dx);
  parameter_gradients_.assign(rig_.store.gradients().begin(), rig_.store.gradients().end());
}

void Examination::accumulate() {
  const double scale = norm(std::vector<double>(parameter_gradients_.begin(), parameter_gradients_.end()));
  rig_.backward(rig_.forward(Keep::all));
  for (const ParameterPtr& parameter : rig_.store.parameters()) {
    std::vector<double> gap = doubles(rig_.store.gradient(*parameter));
    for (std::size_t i = 0; i < gap.size(); ++i)
      gap[i] -= 2 * parameter_gradients_[static_cast<std::size_t>(parameter->range.begin) + i];
    // A second sum on top of the first rounds otherwise than the first did.
    if (const double tolerance = 8 * kEpsilon * scale; norm(gap) > tolerance)
      fail("accumulate") << parameter->name << ": two backwards differ from twice one by " << norm(gap)
                         << ", tolerance " << tolerance;
  }
  if (bits_of(rig_.dx) != dx_) fail("accumulate") << "overwriting again gives other input gradients";
  std::vector<std::vector<double>> once;
  for (GuardedTensor& dx : rig_.dx) once.push_back(is_f32(dx.view()) ? doubles(dx.view()) : std::vector<double>{});
  rig_.backward(rig_.forward(Keep::all), Write::accumulate);
  for (std::size_t i = 0; i < once.size(); ++i) {
    if (once[i].empty()) continue;
    std::vector<double> gap = doubles(rig_.dx[i].view());
    for (std::size_t j = 0; j < gap.size(); ++j) gap[j] -= 2 * once[i][j];
    if (const double tolerance = 8 * kEpsilon * norm(once[i]); !(norm(gap) <= tolerance))
      fail("accumulate") << "input " << i << ": gradient not added, off by " << norm(gap) << ", tolerance "
                         << tolerance;
  }
  const auto before = bits_of(rig_.dx);
  rig_.backward(rig_.forward_and_clear(Keep::all), Write::skip);
  if (bits_of(rig_.dx) != before) fail("accumulate") << "an input gradient was written that is to be skipped";
  if (!std::ranges::equal(rig_.store.gradients(), parameter_gradients_))
    fail("accumulate") << "without input gradients the parameters' are others";
  for (std::size_t i = 0; i < rig_.dx.size(); ++i)
    if (!rig_.dx[i].intact()) fail("accumulate") << "gradient of input " << i << ": written beyond its end";
}

// Central difference of phi at base +- step * direction.
double Examination::difference(View target, const std::vector<double>& base, const std::vector<double>& direction,
                               double step) {
  const auto at = [&](double t) {
    const auto values = target.flat<float>();
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(base[i] + t * direction[i]);
    (void)rig_.forward(Keep::nothing);
    return rig_.phi();
  };
  const double up = at(step), down = at(-step);
  return (up - down) / (2 * step);
}

void Examination::derivative_along(const std::string& name, View target, const std::vector<double>& gradient,
                                   std::vector<double> direction) {
  const std::vector<double> base = doubles(target);
  const double length = std::sqrt(total(dot(direction, direction)));
  if (length == 0) return;
  const double reach = std::max(std::sqrt(total(dot(base, base))), 1e-3);
  for (double& value : direction) value *= reach / length;
  // Richardson: two central differences cancel the error in step^2; the next pair, at twice the step, tells what is
  // left of it, and more (a sixteenth of their difference would be left).
  constexpr double kStep = 1.0 / 64;
  const double d1 = difference(target, base, direction, kStep), d2 = difference(target, base, direction, 2 * kStep),
               d4 = difference(target, base, direction, 4 * kStep);
  const auto values = target.flat<float>();
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(base[i]);
  (void)rig_.forward(Keep::nothing);
  double outputs = 0, weights = 0;
  for (std::size_t i = 0; i < rig_.y.size(); ++i)
    if (rig_.y[i].view().dtype == DType::f32 || rig_.y[i].view().dtype == DType::f64) {
      const auto y = doubles(rig_.y[i].view()), dy = doubles(rig_.dy[i].view());
      outputs += dot(y, y), weights += dot(dy, dy);
    }
  const double fine = (4 * d1 - d2) / 3, coarse = (4 * d2 - d4) / 3;
  const double rounding =
      kEpsilon * (std::sqrt(total(outputs) * total(weights)) + std::sqrt(total(dot(gradient, gradient))) * reach);
  const double tolerance = std::abs(fine - coarse) + 1.5 * options_.depth * rounding / kStep;
  const double analytic = total(dot(gradient, direction));
  if (!(std::abs(analytic - fine) <= tolerance))
    fail("derivative") << name << ": gradient says " << analytic << ", differences say " << fine << ", tolerance "
                       << tolerance;
}

void Examination::derivative() {
  rig_.backward(rig_.forward_and_clear(Keep::all));
  std::vector<std::vector<double>> gradients;
  for (const ParameterPtr& parameter : rig_.store.parameters())
    gradients.push_back(doubles(rig_.store.gradient(*parameter)));
  std::uint64_t stream = 10;
  for (std::size_t i = 0; i < rig_.x.size(); ++i) {
    if (!is_f32(rig_.x[i].view())) continue;
    const std::vector<double> gradient = doubles(rig_.dx[i].view());
    const std::string name = "input " + std::to_string(i);
    derivative_along(name + " (random)", rig_.x[i].view(), gradient,
                     random_direction(gradient.size(), options_.seed + 7, 100 * ++stream + options_.rank));
    derivative_along(name + " (along itself)", rig_.x[i].view(), gradient, gradient);
  }
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    const Parameter& parameter = *rig_.store.parameters()[i];
    const View weight = rig_.store.weight(parameter);
    derivative_along(parameter.name + " (random)", weight, gradients[i],
                     random_direction(gradients[i].size(), options_.seed + 7, 100 * ++stream));
    derivative_along(parameter.name + " (along itself)", weight, gradients[i], total(gradients[i]));
  }
}

void Examination::adjoint() {
  rig_.backward(rig_.forward_and_clear(Keep::all));
  double outer = rig_.phi(), inner = 0, scale = 0;
  for (std::size_t i = 0; i < rig_.x.size(); ++i) {
    if (!is_f32(rig_.x[i].view())) continue;
    const auto x = doubles(rig_.x[i].view()), dx = doubles(rig_.dx[i].view());
    inner += dot(x, dx);
    scale += norm(x) * norm(dx);
  }
  std::vector<std::vector<std::byte>> kept;
  for (GuardedTensor& x : rig_.x) {
    kept.push_back(copy_of(x.bytes()));
    if (is_f32(x.view())) std::ranges::fill(x.bytes(), std::byte{0});
  }
  (void)rig_.forward(Keep::nothing);
  outer -= rig_.phi();
  for (std::size_t i = 0; i < kept.size(); ++i) std::ranges::copy(kept[i], rig_.x[i].bytes().begin());
  inner = total(inner);
  if (const double tolerance = options_.depth * kEpsilon * total(scale); !(std::abs(outer - inner) <= tolerance))
    fail("adjoint") << "<A x, dy> = " << outer << ", <x, A' dy> = " << inner << ", tolerance " << tolerance;
}

void Examination::replay(Keep keep) {
  const SavedPtr earlier = rig_.forward_and_clear(keep);
  if (bits_of(rig_.y) != y_) fail("replay") << "a forward that keeps less gives other outputs";
  SavedPtr saved = rig_.forward(Keep::all, earlier.get());
  if (bits_of(rig_.y) != y_) fail("replay") << "the replayed forward gives other outputs";
  rig_.backward(std::move(saved));
  if (bits_of(rig_.dx) != dx_) fail("replay") << "other input gradients";
  if (!std::ranges::equal(rig_.store.gradients(), parameter_gradients_)) fail("replay") << "other parameter gradients";
}

void Examination::inference() {
  std::ranges::copy(parameter_gradients_, rig_.store.gradients().begin());
  const SavedPtr saved = rig_.forward(Keep::nothing);
  if (rig_.saved.live_bytes() != 0) fail("inference") << rig_.saved.live_bytes() << " bytes are kept";
  if (bits_of(rig_.y) != y_) fail("inference") << "other outputs than in training";
  if (!std::ranges::equal(rig_.store.gradients(), parameter_gradients_)) fail("inference") << "gradients are touched";
}

struct CountingSink final : GradientSink {
  std::map<const Parameter*, int> calls;
  void ready(const Parameter& parameter, Stream&) override { ++calls[&parameter]; }
};

void Examination::announce() {
  CountingSink heard;
  rig_.sink = &heard;
  rig_.backward(rig_.forward_and_clear(Keep::all));
  rig_.sink = nullptr;
  std::map<const Parameter*, int> uses;
  rig_.module.parameters([&](const ParameterPtr& parameter) { ++uses[parameter.get()]; });
  for (const auto& [parameter, count] : uses)
    if (heard.calls[parameter] != count)
      fail("announce") << parameter->name << ": " << heard.calls[parameter] << " times, of " << count << " uses";
}

void Examination::cost(Keep keep) {
  rig_.scratch.restart_peak();
  rig_.ledger.restart_peak();
  const Index before = rig_.scratch.live_bytes(), all_before = rig_.ledger.live_bytes();
  SavedPtr saved = rig_.forward_and_clear(keep);
  const Index kept = rig_.saved.live_bytes();
  if (keep == Keep::all) rig_.backward(std::move(saved));
  saved.reset();
  const Index temporary = rig_.scratch.peak_bytes() - before;
  const Cost bound = rig_.module.cost(options_.in, keep);
  const auto compare = [&](const char* what, Index measured, Index limit) {
    const bool loose = keep == Keep::all && static_cast<double>(limit) > 1.1 * static_cast<double>(measured);
    if (measured > limit || loose)
      fail("cost") << what << " bytes with Keep " << static_cast<int>(keep) << ": measured " << measured
                   << ", cost() says " << limit;
  };
  compare("saved", kept, bound.saved);
  compare("scratch", temporary, bound.scratch);
  compare("saved and scratch", rig_.ledger.peak_bytes() - all_before, bound.together());
}

}  // namespace

std::vector<std::string> check_conformance(Module& module, const ConformanceOptions& options) {
  return Examination(module, options).run();
}

}  // namespace plasmid::test
