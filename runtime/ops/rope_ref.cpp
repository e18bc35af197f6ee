#include <cmath>

#include "runtime/ops/rope.hpp"
#include "runtime/ops/rows.hpp"

namespace plasmid::ops::ref {

void rope(View x, ConstView position, double base, bool inverse) {
  const Index tokens = x.dim(0), heads = x.dim(1), d = x.dim(2), half = d / 2;
  PLASMID_CHECK(d % 2 == 0 && x.step(2) == 1) << to_string(x.shape);
  const std::int32_t* positions = vector_of<std::int32_t>(position, tokens);
  for (Index t = 0; t < tokens; ++t)
    for (Index h = 0; h < heads; ++h) {
      float* const row = x.ptr<float>() + t * x.step(0) + h * x.step(1);
      for (Index c = 0; c < half; ++c) {
        const double angle = positions[t] * std::pow(base, -2.0 * static_cast<double>(c) / static_cast<double>(d));
        const double cosine = std::cos(angle), sine = inverse ? -std::sin(angle) : std::sin(angle);
        const double u = row[c], w = row[c + half];
        row[c] = static_cast<float>(u * cosine - w * sine);
        row[c + half] = static_cast<float>(w * cosine + u * sine);
      }
    }
}

}  // namespace plasmid::ops::ref
