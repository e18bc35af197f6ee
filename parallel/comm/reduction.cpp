#include "parallel/comm/reduction.hpp"

#include <algorithm>

namespace plasmid {
namespace {

template <class T>
void reduce_as(View sum, ConstView part, Reduce op) {
  const auto a = sum.flat<T>();
  const auto b = part.flat<T>();
  PLASMID_CHECK(a.size() == b.size()) << a.size() << " against " << b.size() << " elements";
  if (op == Reduce::sum) {
    std::ranges::transform(a, b, a.begin(), [](T x, T y) { return x + y; });
  } else {
    std::ranges::transform(a, b, a.begin(), [](T x, T y) { return std::max(x, y); });
  }
}

}  // namespace

void reduce_into(View sum, ConstView part, Reduce op) {
  switch (sum.dtype) {
    case DType::f32:
      return reduce_as<float>(sum, part, op);
    case DType::f64:
      return reduce_as<double>(sum, part, op);
    case DType::i32:
      return reduce_as<std::int32_t>(sum, part, op);
    case DType::i64:
      return reduce_as<std::int64_t>(sum, part, op);
    default:
      PLASMID_CHECK(false) << name_of(sum.dtype) << " does not reduce";
  }
}

}  // namespace plasmid
