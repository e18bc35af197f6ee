#pragma once
#include <array>
#include <initializer_list>
#include <string>

#include "runtime/base/check.hpp"
#include "runtime/base/dtype.hpp"
#include "runtime/base/index.hpp"

namespace plasmid {

struct Shape {
  static constexpr int kMaxRank = 5;
  std::array<Index, kMaxRank> dim{};
  int rank = 0;

  constexpr Shape() = default;
  constexpr Shape(std::initializer_list<Index> extents) {
    PLASMID_CHECK(extents.size() <= kMaxRank) << "a tensor has at most " << kMaxRank << " dims";
    for (Index extent : extents) dim[static_cast<std::size_t>(rank++)] = extent;
  }
  constexpr Index operator[](int i) const { return dim[static_cast<std::size_t>(i < 0 ? rank + i : i)]; }
  constexpr Index count() const {  // 1 for a scalar
    Index n = 1;
    for (int i = 0; i < rank; ++i) n *= (*this)[i];
    return n;
  }
  constexpr bool operator==(const Shape&) const = default;
};

inline std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (int i = 0; i < shape.rank; ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

struct TensorSpec {
  Shape shape;
  DType dtype = DType::f32;
  constexpr Index bytes() const { return shape.count() * size_of(dtype); }
  constexpr bool operator==(const TensorSpec&) const = default;
};

}  // namespace plasmid
