#include "runtime/ops/activation.hpp"

#include <cmath>
#include <limits>

#include "tests/support/padded.hpp"
#include "tests/support/slope.hpp"

namespace plasmid {
namespace {

using ops::Activation;
using test::kHalfUlp;
using test::Padded;

constexpr Index kCounts[] = {0, 1, 7, 16, 33, 1000, 5000};

// All of [-40, 40] densely, and what lies at the ends of f32.
Padded sweep() {
  constexpr Index kPoints = 200'003;
  Padded x({kPoints + 8});
  for (Index i = 0; i < kPoints; ++i) x.at(i) = static_cast<float>(-40 + 80.0 * static_cast<double>(i) / kPoints);
  const float ends[] = {0.0f, -0.0f, 1e-30f, -1e-30f, 100, -100, 3e4f, -3e4f};
  for (Index i = 0; i < 8; ++i) x.at(kPoints + i) = ends[i];
  return x;
}

// A rounding of an exponent u moves exp(u) by |u| half ulps; about ten further operations, four with Highway's Exp
// (1 ulp) and a division among them.
double curve_error(double exponent) { return (std::abs(exponent) * 2 + 16) * kHalfUlp; }

// The definition's own error in f64: 1 + tanh u cancels where u is far below 0, with up to x^3 as its factor.
double definition_error(double x) { return 0x1p-52 * (1 + std::abs(x) * (1 + x * x)); }

double gelu_exponent(double x, Activation kind) {
  return kind == Activation::gelu_tanh ? std::min(88.0, std::abs(1.6 * (x + 0.044715 * x * x * x)))
                                       : std::min(104.0, x * x / 2);
}

TEST(Activation, EqualsItsDefinitionEverywhere) {
  Stream stream;
  const Padded x = sweep();
  for (const Activation kind : {Activation::gelu_tanh, Activation::gelu_erf}) {
    Padded y(Shape{x.rows()}), wanted = y, dx = y, slope = y;
    ops::activation_forward(x.view(), kind, y.view(), stream);
    ops::ref::activation_forward(x.view(), kind, wanted.view());
    test::expect_within(
        y, wanted,
        [&](Index i, Index) {
          const double exponent = x.at(i) < 0 ? gelu_exponent(x.at(i), kind) : 0;  // for x > 0 it is small beside 1
          return curve_error(exponent) * std::abs(wanted.at(i)) + definition_error(x.at(i));
        },
        "gelu");
    Padded ones({x.rows()});
    ones.for_each([](float& one) { one = 1; });
    ops::activation_backward(x.view(), kind, ones.view(), Write::overwrite, dx.view(), stream);
    ops::ref::activation_backward(x.view(), kind, ones.view(), Write::overwrite, slope.view());
    // The slope is the sum of two terms, the curve and x times its slope, which may cancel.
    test::expect_within(
        dx, slope,
        [&](Index i, Index) {
          const double u = gelu_exponent(x.at(i), kind), a = std::abs(x.at(i));
          const double inner = kind == Activation::gelu_tanh ? 1.6 * (1 + 0.14 * a * a) : 0.4;
          const double terms = (x.at(i) < 0 ? 0 : 1) + (1 + a * inner) * std::exp(-u);
          return curve_error(u) * terms + definition_error(x.at(i));
        },
        "slope");
  }
}

TEST(Activation, ReluIsExact) {
  Stream stream;
  const Padded x = sweep();
  Padded y(Shape{x.rows()}), dx = y, ones({x.rows()});
  ones.for_each([](float& one) { one = 1; });
  ops::activation_forward(x.view(), Activation::relu, y.view(), stream);
  ops::activation_backward(x.view(), Activation::relu, ones.view(), Write::overwrite, dx.view(), stream);
  for (Index i = 0; i < x.rows(); ++i) {
    ASSERT_EQ(y.at(i), x.at(i) > 0 ? x.at(i) : 0) << x.at(i);
    ASSERT_EQ(dx.at(i), x.at(i) > 0 ? 1 : 0) << x.at(i);
  }
  Padded ends({3}), to({3});
  ends.at(0) = -std::numeric_limits<float>::infinity(), ends.at(1) = -ends.at(0);
  ends.at(2) = std::numeric_limits<float>::quiet_NaN();
  ops::activation_forward(ends.view(), Activation::relu, to.view(), stream);
  EXPECT_EQ(to.at(0), 0);
  EXPECT_EQ(to.at(1), ends.at(1));
  EXPECT_TRUE(std::isnan(to.at(2)));
}

TEST(Activation, HeedsWriteAliasesAndEveryLength) {
  Stream stream;
  for (const Index n : kCounts)
    for (const Activation kind : {Activation::gelu_tanh, Activation::gelu_erf, Activation::relu}) {
      const Padded x = Padded::normal({n}, 1), dy = Padded::normal({n}, 2), before = Padded::normal({n}, 3);
      Padded y({n}), in_place = x;
      ops::activation_forward(x.view(), kind, y.view(), stream);
      ops::activation_forward(in_place.view(), kind, in_place.view(), stream);
      test::expect_same_bits(in_place, y, "forward in place");

      Padded skipped = before, written = before, added = before, aliased = dy;
      ops::activation_backward(x.view(), kind, dy.view(), Write::skip, skipped.view(), stream);
      ops::activation_backward(x.view(), kind, dy.view(), Write::overwrite, written.view(), stream);
      ops::activation_backward(x.view(), kind, dy.view(), Write::accumulate, added.view(), stream);
      ops::activation_backward(x.view(), kind, aliased.view(), Write::overwrite, aliased.view(), stream);
      test::expect_same_bits(skipped, before, "skip");
      test::expect_same_bits(aliased, written, "dx in place of dy");
      test::expect_within(  // the product may or may not be rounded before it is added
          added, test::moved(before, written, 1),
          [&](Index i, Index) { return 2 * kHalfUlp * (std::abs(written.at(i)) + std::abs(before.at(i))); }, "add");
    }
}

// What a team does to one tensor: any element may fall into a vector or into a tail.
TEST(Activation, BitsOfAnElementDoNotDependOnItsPlace) {
  Stream stream;
  constexpr Index kCount = 70;
  const Padded x = Padded::normal({kCount}, 1), dy = Padded::normal({kCount}, 2), before = Padded::normal({kCount}, 3);
  for (const Activation kind : {Activation::gelu_tanh, Activation::gelu_erf, Activation::relu})
    for (const Write write : {Write::overwrite, Write::accumulate}) {
      Padded y({kCount}), dx = before;
      ops::activation_forward(x.view(), kind, y.view(), stream);
      ops::activation_backward(x.view(), kind, dy.view(), write, dx.view(), stream);
      for (Index begin = 0; begin < kCount; ++begin)
        for (Index end = begin + 1; end <= kCount; ++end) {
          Padded part({kCount}), dpart = before;
          ops::activation_forward(x.view().slice(0, begin, end), kind, part.view().slice(0, begin, end), stream);
          ops::activation_backward(x.view().slice(0, begin, end), kind, dy.view().slice(0, begin, end), write,
                                   dpart.view().slice(0, begin, end), stream);
          for (Index i = begin; i < end; ++i) {
            ASSERT_EQ(part.at(i), y.at(i)) << i << " in [" << begin << ", " << end << ")";
            ASSERT_EQ(dpart.at(i), dx.at(i)) << i << " in [" << begin << ", " << end << ")";
          }
        }
    }
}

TEST(Activation, DefinitionOfBackwardIsTheSlopeOfForward) {
  const Padded x = test::on_grid(Padded::normal({50}, 1, 0, 0, 2)), dy = Padded::normal({50}, 2),
               v = test::signs({50}, 3);
  for (const Activation kind : {Activation::gelu_tanh, Activation::gelu_erf}) {
    const auto forward = [&](const Padded& at) {
      Padded y({50});
      ops::ref::activation_forward(at.view(), kind, y.view());
      return y;
    };
    Padded dx({50});
    ops::ref::activation_backward(x.view(), kind, dy.view(), Write::overwrite, dx.view());
    const double rounding = kHalfUlp * test::inner(forward(x).magnitudes(), dy.magnitudes());
    test::expect_slope([&](double s) { return test::inner(forward(test::moved(x, v, s)), dy); }, test::inner(dx, v),
                       rounding, "gelu");
  }
}

constexpr Shape kSizes[] = {{0, 8}, {1, 1}, {3, 7}, {5, 176}, {40, 129}};

TEST(Swiglu, EqualsItsDefinition) {
  Stream stream;
  for (const Shape& size : kSizes)
    for (const Index gap : {0, 5}) {
      const Padded gate = Padded::normal(size, 1, gap, 0, 6), up = Padded::normal(size, 2, gap + 1),
                   dy = Padded::normal(size, 3, gap + 2);
      Padded y(size, gap), wanted(size), dgate(size, gap), dup(size, 1), dgate_wanted(size), dup_wanted(size);
      ops::swiglu_forward(gate.view(), up.view(), y.view(), stream);
      ops::ref::swiglu_forward(gate.view(), up.view(), wanted.view());
      const auto error = [&](Index t, Index c) { return curve_error(gate.at(t, c)); };
      test::expect_within(
          y, wanted, [&](Index t, Index c) { return error(t, c) * std::abs(wanted.at(t, c)); }, to_string(size));

      ops::swiglu_backward(gate.view(), up.view(), dy.view(), dgate.view(), dup.view(), stream);
      ops::ref::swiglu_backward(gate.view(), up.view(), dy.view(), dgate_wanted.view(), dup_wanted.view());
      test::expect_within(
          dup, dup_wanted, [&](Index t, Index c) { return error(t, c) * std::abs(dup_wanted.at(t, c)); }, "dup");
      test::expect_within(
          dgate, dgate_wanted,
          [&](Index t, Index c) {
            const double g = gate.at(t, c), s = 1 / (1 + std::exp(-g));
            return error(t, c) * std::abs(dy.at(t, c) * up.at(t, c)) * s * (1 + std::abs(g) * (1 - s));
          },
          "dgate");
    }
}

TEST(Swiglu, ResultsMayTakeThePlaceOfInputs) {
  Stream stream;
  const Shape size{5, 37};
  const Padded gate = Padded::normal(size, 1), up = Padded::normal(size, 2), dy = Padded::normal(size, 3);
  Padded y(size), in_gate = gate, in_up = up, dgate(size), dup(size);
  ops::swiglu_forward(gate.view(), up.view(), y.view(), stream);
  ops::swiglu_forward(in_gate.view(), up.view(), in_gate.view(), stream);
  ops::swiglu_forward(gate.view(), in_up.view(), in_up.view(), stream);
  test::expect_same_bits(in_gate, y, "y is gate");
  test::expect_same_bits(in_up, y, "y is up");
  ops::swiglu_backward(gate.view(), up.view(), dy.view(), dgate.view(), dup.view(), stream);
  Padded first = dy, second = dy, other(size);
  ops::swiglu_backward(gate.view(), up.view(), first.view(), first.view(), other.view(), stream);
  test::expect_same_bits(first, dgate, "dgate is dy");
  ops::swiglu_backward(gate.view(), up.view(), second.view(), other.view(), second.view(), stream);
  test::expect_same_bits(second, dup, "dup is dy");
}

TEST(Swiglu, DefinitionOfBackwardIsTheSlopeOfForward) {
  const Shape size{4, 9};
  const Padded gate = test::on_grid(Padded::normal(size, 1)), up = test::on_grid(Padded::normal(size, 2)),
               dy = Padded::normal(size, 3), vg = test::signs(size, 4), vu = test::signs(size, 5);
  Padded dgate(size), dup(size);
  ops::ref::swiglu_backward(gate.view(), up.view(), dy.view(), dgate.view(), dup.view());
  const auto loss = [&](double s) {
    Padded y(size);
    ops::ref::swiglu_forward(test::moved(gate, vg, s).view(), test::moved(up, vu, s).view(), y.view());
    return test::inner(y, dy);
  };
  Padded y(size);
  ops::ref::swiglu_forward(gate.view(), up.view(), y.view());
  test::expect_slope(loss, test::inner(dgate, vg) + test::inner(dup, vu),
                     kHalfUlp * test::inner(y.magnitudes(), dy.magnitudes()), "swiglu");
}

}  // namespace
}  // namespace plasmid
