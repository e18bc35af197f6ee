#pragma once
#include "runtime/base/check.hpp"
#include "runtime/nn/module.hpp"
#include "runtime/tensor/view.hpp"

namespace plasmid::ops {

// How the ops see a tensor: rows of contiguous elements, `stride` elements apart.
template <class T>
struct Rows {
  T* data = nullptr;
  Index count = 0, width = 0, stride = 0;
  T* operator[](Index row) const { return data + row * stride; }
  bool contiguous() const { return stride == width || count <= 1; }
};

// view as [count, width]; its shape, dtype and contiguous rows are CHECKed.
template <class T, class Byte>
auto rows_of(const BasicView<Byte>& view, Index count, Index width) {
  PLASMID_CHECK(view.shape == (Shape{count, width}))
      << to_string(view.shape) << " where " << to_string(Shape{count, width}) << " is wanted";
  PLASMID_CHECK(view.device.kind == Device::Kind::host) << "a host kernel was given a device tensor";
  PLASMID_CHECK(width <= 1 || view.step(1) == 1) << "the last dim is strided by " << view.step(1);
  return Rows<typename BasicView<Byte>::template Element<T>>{view.template ptr<T>(), count, width, view.step(0)};
}

// view as [width], contiguous, CHECKed.
template <class T, class Byte>
auto vector_of(const BasicView<Byte>& view, Index width) {
  PLASMID_CHECK(view.shape == Shape{width})
      << to_string(view.shape) << " where " << to_string(Shape{width}) << " is wanted";
  PLASMID_CHECK(view.device.kind == Device::Kind::host) << "a host kernel was given a device tensor";
  PLASMID_CHECK(width <= 1 || view.step(0) == 1) << "the only dim is strided by " << view.step(0);
  return view.template ptr<T>();
}

// The same where an empty view means "not wanted".
template <class T, class Byte>
auto optional_vector(const BasicView<Byte>& view, Index width) {
  using Pointer = typename BasicView<Byte>::template Element<T>*;
  return view ? vector_of<T>(view, width) : Pointer{nullptr};
}

// Any shape whose inner dims are contiguous, as rows: one long row where the whole is contiguous, else one row for each
// index of the outer dim.
template <class T, class Byte>
auto flat_rows(const BasicView<Byte>& view) {
  using Element = typename BasicView<Byte>::template Element<T>;
  PLASMID_CHECK(view.device.kind == Device::Kind::host) << "a host kernel was given a device tensor";
  T* const none = nullptr;
  Element* const data = view.data ? view.template ptr<T>() : none;
  if (view.contiguous() || view.count() == 0) return Rows<Element>{data, 1, view.count(), view.count()};
  Index width = 1;
  for (int i = view.shape.rank - 1; i > 0; --i) {
    PLASMID_CHECK(view.dim(i) == 1 || view.step(i) == width)
        << "dim " << i << " of " << to_string(view.shape) << " is strided by " << view.step(i);
    width *= view.dim(i);
  }
  return Rows<Element>{data, view.dim(0), width, view.step(0)};
}

template <class To, class From>
void put(To& to, From value, Write how) {
  if (how == Write::overwrite) to = static_cast<To>(value);
  if (how == Write::accumulate) to = static_cast<To>(to + value);
}

}  // namespace plasmid::ops
