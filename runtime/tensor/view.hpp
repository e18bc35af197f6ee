#pragma once
#include <array>
#include <cstddef>
#include <span>
#include <type_traits>

#include "runtime/base/check.hpp"
#include "runtime/base/dtype.hpp"
#include "runtime/base/shape.hpp"
#include "runtime/device/device.hpp"

namespace plasmid {

// Borrows a tensor: the owner outlives the view. Strides count elements. A view carries its dtype, so that counts are
// always elements, never bytes. Byte is std::byte or const std::byte.
template <class Byte>
struct BasicView {
  Byte* data = nullptr;
  DType dtype = DType::f32;
  Device device;
  Shape shape;
  std::array<Index, Shape::kMaxRank> stride{};

  BasicView() = default;
  BasicView(Byte* bytes, const TensorSpec& spec, Device where = {})
      : data(bytes), dtype(spec.dtype), device(where), shape(spec.shape) {
    Index step = 1;
    for (int i = shape.rank - 1; i >= 0; --i) {
      stride[static_cast<std::size_t>(i)] = step;
      step *= shape[i];
    }
  }
  operator BasicView<const std::byte>() const requires(!std::is_const_v<Byte>) {
    BasicView<const std::byte> view;
    view.data = data, view.dtype = dtype, view.device = device, view.shape = shape, view.stride = stride;
    return view;
  }

  explicit operator bool() const { return data != nullptr; }
  TensorSpec spec() const { return {shape, dtype}; }
  Index count() const { return shape.count(); }
  Index dim(int i) const { return shape[i]; }
  Index step(int i) const { return stride[static_cast<std::size_t>(i < 0 ? shape.rank + i : i)]; }

  bool contiguous() const {
    Index expected = 1;
    for (int i = shape.rank - 1; i >= 0; --i) {
      if (shape[i] != 1 && step(i) != expected) return false;
      expected *= shape[i];
    }
    return true;
  }

  template <class T>
  using Element = std::conditional_t<std::is_const_v<Byte>, const T, T>;

  template <class T>
  Element<T>* ptr() const {  // the first element; strided access is the caller's business
    PLASMID_CHECK(dtype == DTypeOf<T>::value) << "dtype is " << name_of(dtype);
    return reinterpret_cast<Element<T>*>(data);
  }
  template <class T>
  std::span<Element<T>> flat() const {
    PLASMID_CHECK(contiguous()) << "shape " << to_string(shape);
    return {ptr<T>(), static_cast<std::size_t>(count())};
  }

  BasicView slice(int d, Index begin, Index end) const {
    PLASMID_CHECK(0 <= begin && begin <= end && end <= dim(d))
        << "[" << begin << ", " << end << ") of dim " << d << " of " << to_string(shape);
    BasicView part = *this;
    const auto i = static_cast<std::size_t>(d < 0 ? shape.rank + d : d);
    if (data) part.data += begin * stride[i] * size_of(dtype);
    part.shape.dim[i] = end - begin;
    return part;
  }
  // The same elements under another shape. Contiguous, or a split of the last dim.
  BasicView reshape(const Shape& to) const {
    PLASMID_CHECK(to.count() == count()) << to_string(shape) << " to " << to_string(to);
    if (contiguous()) return BasicView(data, {to, dtype}, device);
    const int kept = shape.rank - 1;
    PLASMID_CHECK(to.rank >= kept && step(-1) == 1) << "strided " << to_string(shape) << " to " << to_string(to);
    BasicView view(data, {to, dtype}, device);
    for (int i = 0; i < kept; ++i) {
      PLASMID_CHECK(to[i] == shape[i]) << "strided " << to_string(shape) << " to " << to_string(to);
      view.stride[static_cast<std::size_t>(i)] = stride[static_cast<std::size_t>(i)];
    }
    return view;
  }
};

using View = BasicView<std::byte>;
using ConstView = BasicView<const std::byte>;

// A one-dim view of memory that somebody else owns.
template <class T>
auto view_of(std::span<T> elements) {
  using Bare = std::remove_const_t<T>;
  using Byte = std::conditional_t<std::is_const_v<T>, const std::byte, std::byte>;
  return BasicView<Byte>(reinterpret_cast<Byte*>(elements.data()),
                         {{static_cast<Index>(elements.size())}, DTypeOf<Bare>::value});
}

}  // namespace plasmid
