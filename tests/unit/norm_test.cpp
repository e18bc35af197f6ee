#include "runtime/ops/norm.hpp"

#include <omp.h>

#include "tests/support/padded.hpp"
#include "tests/support/slope.hpp"

namespace plasmid {
namespace {

using test::kHalfUlp;
using test::Padded;

constexpr float kEpsilon = 1e-5f;
constexpr Shape kSizes[] = {{0, 8}, {1, 1}, {3, 7}, {5, 384}, {2, 1023}, {300, 33}, {70, 16}, {600, 65}};

// Sums over a row run in four chains of at least four lanes each (baseline SSE4): so many roundings, and a few more.
double chain(Index width) { return static_cast<double>(width) / 16 + 10; }

struct RowFacts {  // of one row, in f64
  double mean = 0, size = 0, variance = 0;
  RowFacts(const Padded& x, Index t, bool centred) {
    const double n = static_cast<double>(x.width());
    for (Index c = 0; c < x.width(); ++c) mean += x.at(t, c) / n, size += std::abs(x.at(t, c)) / n;
    if (!centred) mean = size = 0;
    for (Index c = 0; c < x.width(); ++c) variance += (x.at(t, c) - mean) * (x.at(t, c) - mean) / n;
  }
};

struct Forward {
  Padded y, mean, rstd;
};

void expect_forward(const Padded& x, const Padded& gain, const Padded& bias, bool layer, const Forward& found,
                    const Forward& wanted, const std::string& what) {
  for (Index t = 0; t < x.rows(); ++t) {
    const RowFacts row(x, t, layer);
    const double rstd = 1 / std::sqrt(row.variance + kEpsilon);
    const double mean_error = chain(x.width()) * kHalfUlp * row.size;
    // The variance: its own roundings, and the mean's error, which enters squared and with each subtraction's rounding.
    const double relative = (chain(x.width()) + 4) * kHalfUlp + mean_error * mean_error * rstd * rstd;
    if (layer) {
      EXPECT_NEAR(found.mean.at(t), wanted.mean.at(t), mean_error + kHalfUlp * row.size) << what;
    }
    EXPECT_NEAR(found.rstd.at(t), wanted.rstd.at(t), relative * rstd) << what;
    for (Index c = 0; c < x.width(); ++c) {
      const double normal = std::abs(x.at(t, c) - row.mean) * rstd, g = std::abs(gain.at(c));
      const double offset = layer ? std::abs(bias.at(c)) : 0;
      const double bound = g * (normal * (relative + 4 * kHalfUlp) + rstd * mean_error) + 2 * kHalfUlp * offset;
      ASSERT_NEAR(found.y.at(t, c), wanted.y.at(t, c), bound) << what << " at " << t << ", " << c;
    }
  }
  EXPECT_TRUE(found.y.guards_stand());
}

class Norm : public testing::TestWithParam<bool> {  // layer or RMS
 protected:
  Forward host_forward(const Padded& x, Padded& y) {
    Forward result{y, Padded({x.rows()}), Padded({x.rows()})};
    if (GetParam())
      ops::layer_norm_forward(x.view(), gain_.view(), bias_.view(), kEpsilon, y.view(), result.mean.view(),
                              result.rstd.view(), stream_);
    else
      ops::rms_norm_forward(x.view(), gain_.view(), kEpsilon, y.view(), result.rstd.view(), stream_);
    result.y = y;
    return result;
  }
  Forward ref_forward(const Padded& x) const {
    Forward result{Padded({x.rows(), x.width()}), Padded({x.rows()}), Padded({x.rows()})};
    if (GetParam())
      ops::ref::layer_norm_forward(x.view(), gain_.view(), bias_.view(), kEpsilon, result.y.view(), result.mean.view(),
                                   result.rstd.view());
    else
      ops::ref::rms_norm_forward(x.view(), gain_.view(), kEpsilon, result.y.view(), result.rstd.view());
    return result;
  }
  void set_width(Index width) { gain_ = Padded::normal({width}, 11, 0, 1, 0.3f), bias_ = Padded::normal({width}, 12); }

  Stream stream_;
  Padded gain_{{1}}, bias_{{1}};
};

TEST_P(Norm, ForwardEqualsItsDefinition) {
  for (const Shape& size : kSizes)
    for (const Index gap : {0, 5})
      for (const float offset : {0.0f, 100.0f}) {  // a large common part is what a careless variance loses
        const std::string what = to_string(size) + " around " + std::to_string(offset);
        set_width(size[1]);
        Padded x = Padded::normal(size, 1, gap, offset), y(size, gap + 1);
        const Forward wanted = ref_forward(x);
        expect_forward(x, gain_, bias_, GetParam(), host_forward(x, y), wanted, what);
        const Padded before = x;  // in place
        expect_forward(before, gain_, bias_, GetParam(), host_forward(x, x), wanted, what + " in place");
      }
}

struct Backward {
  Padded dx, dgain, dbias;
};

TEST_P(Norm, BackwardEqualsItsDefinition) {
  for (const Shape& size : kSizes)
    for (const Write write : {Write::skip, Write::overwrite, Write::accumulate}) {
      const Index tokens = size[0], width = size[1];
      set_width(width);
      const Padded x = Padded::normal(size, 1, 3, 2), dy = Padded::normal(size, 2, 1);
      const Forward f = ref_forward(x);
      const Backward start{Padded::normal(size, 3, 2), Padded::normal({width}, 4), Padded::normal({width}, 5)};
      Backward found = start, wanted = start;
      if (GetParam()) {
        ops::layer_norm_backward(x.view(), gain_.view(), f.mean.view(), f.rstd.view(), dy.view(), write,
                                 found.dx.view(), found.dgain.view(), found.dbias.view(), stream_);
        ops::ref::layer_norm_backward(x.view(), gain_.view(), f.mean.view(), f.rstd.view(), dy.view(), write,
                                      wanted.dx.view(), wanted.dgain.view(), wanted.dbias.view());
      } else {
        ops::rms_norm_backward(x.view(), gain_.view(), f.rstd.view(), dy.view(), write, found.dx.view(),
                               found.dgain.view(), stream_);
        ops::ref::rms_norm_backward(x.view(), gain_.view(), f.rstd.view(), dy.view(), write, wanted.dx.view(),
                                    wanted.dgain.view());
      }
      const auto normal = [&](Index t, Index c) {
        return (static_cast<double>(x.at(t, c)) - f.mean.at(t)) * f.rstd.at(t);
      };
      const auto dx_bound = [&](Index t, Index c) {
        double mean_h = 0, mean_hn = 0;
        for (Index i = 0; i < width; ++i) {
          const double h = std::abs(dy.at(t, i) * gain_.at(i)) / static_cast<double>(width);
          mean_h += h, mean_hn += h * std::abs(normal(t, i));
        }
        const double h = std::abs(dy.at(t, c) * gain_.at(c));
        const double terms = f.rstd.at(t) * (h + mean_h + std::abs(normal(t, c)) * mean_hn);
        return (static_cast<double>(width) / 4 + 10) * kHalfUlp * terms + 2 * kHalfUlp * std::abs(start.dx.at(t, c));
      };
      const auto sum_bound = [&](Index c, bool of_gain) {
        double size_of_sum = 0;
        for (Index t = 0; t < tokens; ++t) size_of_sum += std::abs(dy.at(t, c) * (of_gain ? normal(t, c) : 1));
        const double before = std::abs(of_gain ? start.dgain.at(c) : start.dbias.at(c));
        return (static_cast<double>(std::min<Index>(tokens, 256)) + 5) * kHalfUlp * (size_of_sum + before);
      };
      const std::string what = to_string(size) + " write " + std::to_string(static_cast<int>(write));
      test::expect_within(found.dx, wanted.dx, dx_bound, what);
      test::expect_within(
          found.dgain, wanted.dgain, [&](Index c, Index) { return sum_bound(c, true); }, "gain " + what);
      test::expect_within(
          found.dbias, wanted.dbias, [&](Index c, Index) { return sum_bound(c, false); }, "bias " + what);
    }
}

TEST_P(Norm, GainGradientIsTheSameForAnyNumberOfThreads) {
  const int threads = omp_get_max_threads();
  set_width(37);
  const Padded x = Padded::normal({1500, 37}, 1), dy = Padded::normal({1500, 37}, 2);
  const Forward f = ref_forward(x);
  std::vector<Padded> dgain(3, Padded({37})), dbias(3, Padded({37}));
  for (const int team : {1, 2, 3}) {
    omp_set_num_threads(team);
    const auto i = static_cast<std::size_t>(team - 1);
    if (GetParam())
      ops::layer_norm_backward(x.view(), gain_.view(), f.mean.view(), f.rstd.view(), dy.view(), Write::skip, {},
                               dgain[i].view(), dbias[i].view(), stream_);
    else
      ops::rms_norm_backward(x.view(), gain_.view(), f.rstd.view(), dy.view(), Write::skip, {}, dgain[i].view(),
                             stream_);
    test::expect_same_bits(dgain[i], dgain[0], std::to_string(team) + " threads");
    test::expect_same_bits(dbias[i], dbias[0], std::to_string(team) + " threads");
  }
  omp_set_num_threads(threads);
}

TEST_P(Norm, DefinitionOfBackwardIsTheSlopeOfForward) {
  const Shape size{3, 9};
  set_width(9);
  gain_ = test::on_grid(gain_), bias_ = test::on_grid(bias_);
  const Padded x = test::on_grid(Padded::normal(size, 1, 0, 1)), dy = Padded::normal(size, 2);
  const Forward f = ref_forward(x);
  Backward g{Padded(size), Padded({9}), Padded({9})};
  if (GetParam())
    ops::ref::layer_norm_backward(x.view(), gain_.view(), f.mean.view(), f.rstd.view(), dy.view(), Write::overwrite,
                                  g.dx.view(), g.dgain.view(), g.dbias.view());
  else
    ops::ref::rms_norm_backward(x.view(), gain_.view(), f.rstd.view(), dy.view(), Write::overwrite, g.dx.view(),
                                g.dgain.view());
  const double rounding = kHalfUlp * test::inner(f.y.magnitudes(), dy.magnitudes());
  const Padded vx = test::signs(size, 6), vg = test::signs({9}, 7), vb = test::signs({9}, 8);
  const auto along_x = [&](double s) { return test::inner(ref_forward(test::moved(x, vx, s)).y, dy); };
  test::expect_slope(along_x, test::inner(g.dx, vx), rounding, "input");
  const Padded gain = gain_, bias = bias_;
  const auto along_gain = [&](double s) {
    gain_ = test::moved(gain, vg, s);
    const double loss = test::inner(ref_forward(x).y, dy);
    gain_ = gain;
    return loss;
  };
  test::expect_slope(along_gain, test::inner(g.dgain, vg), rounding, "gain");
  const auto along_bias = [&](double s) {
    bias_ = test::moved(bias, vb, s);
    return test::inner(ref_forward(x).y, dy);
  };
  test::expect_slope(along_bias, test::inner(g.dbias, vb), rounding, "bias");
}

INSTANTIATE_TEST_SUITE_P(Both, Norm, testing::Values(true, false),
                         [](const auto& which) { return which.param ? "Layer" : "Rms"; });

}  // namespace
}  // namespace plasmid
