#pragma once
#include <cstdint>
#include <string_view>

#include "runtime/base/index.hpp"

namespace plasmid {

// u8: bytes and validity bits. u16: bucket numbers. q32: fixed point, the reversible stream. f64 and i64: sums and
// counts.
enum class DType : std::uint8_t { f32, f64, bf16, i32, i64, u8, q32, u16 };

constexpr Index size_of(DType type) {
  switch (type) {
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::bf16:
    case DType::u16:
      return 2;
    case DType::u8:
      return 1;
    default:
      return 4;
  }
}

constexpr std::string_view name_of(DType type) {
  constexpr std::string_view names[] = {"f32", "f64", "bf16", "i32", "i64", "u8", "q32", "u16"};
  return names[static_cast<int>(type)];
}

struct BFloat16 {  // storage only; arithmetic is f32
  std::uint16_t bits = 0;
};

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::f64;
};
template <>
struct DTypeOf<BFloat16> {
  static constexpr DType value = DType::bf16;
};
template <>
struct DTypeOf<std::int32_t> {
  static constexpr DType value = DType::i32;
};
template <>
struct DTypeOf<std::int64_t> {
  static constexpr DType value = DType::i64;
};
template <>
struct DTypeOf<std::uint8_t> {
  static constexpr DType value = DType::u8;
};
template <>
struct DTypeOf<std::uint16_t> {
  static constexpr DType value = DType::u16;
};

}  // namespace plasmid
