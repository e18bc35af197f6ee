#include <algorithm>
#include <cstring>
#include <tuple>

#include "runtime/base/bfloat16.hpp"
#include "runtime/device/parallel_for.hpp"
#include "runtime/ops/elementwise.hpp"
#include "runtime/ops/rows.hpp"

namespace plasmid::ops {
namespace {

constexpr Index kGrain = 16 * 1024;  // elements a thread is worth waking for

// Tensors of one shape as rows of one width: a contiguous one is cut as the strided ones are. The first is of T, the
// others of U.
template <class T, class U = T, class First, class... Views>
auto rows_together(const First& first, const Views&... others) {
  const auto check = [&](const Shape& shape) {
    PLASMID_CHECK(shape == first.shape) << to_string(shape) << " with " << to_string(first.shape);
  };
  (check(others.shape), ...);
  std::tuple rows(flat_rows<T>(first), flat_rows<U>(others)...);
  std::apply(
      [](auto&... each) {
        const Index count = std::max({each.count...});
        const auto cut = [count](auto& whole) {
          if (whole.count == 1) whole.count = count, whole.width = whole.stride = whole.width / count;
        };
        (cut(each), ...);
      },
      rows);
  return rows;
}

// body(row, begin, end) over all rows and columns, in parts of at least kGrain elements.
template <class Body>
void for_each_part(Index rows, Index width, Body&& body) {
  if (rows == 1) return parallel_for(width, kGrain, [&](Index begin, Index end) { body(0, begin, end); });
  parallel_for(rows, std::max<Index>(1, kGrain / std::max<Index>(1, width)), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) body(r, 0, width);
  });
}

template <class T>
void copy_rows(ConstView from, View to) {
  const auto [a, b] = rows_together<T>(from, to);
  for_each_part(a.count, a.width, [&, a = a, b = b](Index r, Index begin, Index end) {
    if (end > begin) std::memmove(b[r] + begin, a[r] + begin, static_cast<std::size_t>(end - begin) * sizeof(T));
  });
}

}  // namespace

void fill(View x, float value, Stream&) {
  const auto rows = flat_rows<float>(x);
  for_each_part(rows.count, rows.width,
                [&](Index r, Index begin, Index end) { std::fill(rows[r] + begin, rows[r] + end, value); });
}

void copy(ConstView from, View to, Stream&) {
  PLASMID_CHECK(from.dtype == to.dtype) << name_of(from.dtype) << " to " << name_of(to.dtype);
  // Bits are moved, not numbers, so only the element's size matters.
  const Index size = size_of(from.dtype);
  from.dtype = to.dtype = size == 8 ? DType::i64 : size == 4 ? DType::i32 : size == 2 ? DType::bf16 : DType::u8;
  if (size == 8) copy_rows<std::int64_t>(from, to);
  if (size == 4) copy_rows<std::int32_t>(from, to);
  if (size == 2) copy_rows<BFloat16>(from, to);
  if (size == 1) copy_rows<std::uint8_t>(from, to);
}

void add(ConstView a, ConstView b, View sum, Stream&) {
  const auto [left, right, to] = rows_together<float>(a, b, sum);
  for_each_part(to.count, to.width, [&, left = left, right = right, to = to](Index r, Index begin, Index end) {
    for (Index c = begin; c < end; ++c) to[r][c] = left[r][c] + right[r][c];
  });
}

void write(ConstView from, Write how, View to, Stream& stream) {
  if (how == Write::overwrite) copy(from, to, stream);
  if (how == Write::accumulate) add(from, to, to, stream);
}

void scale(View x, float factor, Stream&) {
  const auto rows = flat_rows<float>(x);
  for_each_part(rows.count, rows.width, [&](Index r, Index begin, Index end) {
    for (Index c = begin; c < end; ++c) rows[r][c] *= factor;
  });
}

void round(ConstView from, View to, Stream&) {
  const auto [a, b] = rows_together<float, BFloat16>(from, to);
  for_each_part(a.count, a.width, [&, a = a, b = b](Index r, Index begin, Index end) {
    for (Index c = begin; c < end; ++c) b[r][c] = rounded(a[r][c]);
  });
}

}  // namespace plasmid::ops
