// Arrays of all four dtypes, written and compared as plain numbers. Called by selftest.cc.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>

#include "kernels.h"

namespace depthwise {

inline uint16_t ToHalf(float value) {  // of an integer below 2048 in magnitude
  if (value == 0) return 0;
  int exponent;
  const float fraction = std::frexp(std::fabs(value), &exponent);
  const int mantissa = static_cast<int>(fraction * 2048) - 1024;
  return static_cast<uint16_t>((value < 0 ? 0x8000 : 0) | (exponent + 14) << 10 | mantissa);
}

inline uint16_t ToBFloat16(float value) {  // rounds to nearest even
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline constexpr std::align_val_t kCacheLine{64};

// An array of one of the four dtypes, filled with or compared to plain numbers. It begins at a
// cache line.
class Array {
 public:
  Array(DType dtype, size_t count)
      : dtype_(dtype), bytes_(new(kCacheLine) std::byte[count * ElementSize()]) {}

  size_t ElementSize() const { return kElementSize[static_cast<int>(dtype_)]; }
  std::byte* At(size_t i) { return bytes_.get() + i * ElementSize(); }

  void Set(size_t i, float value) {
    switch (dtype_) {
      case DType::kFloat32: Write(i, value); break;
      case DType::kFloat64: Write(i, static_cast<double>(value)); break;
      case DType::kFloat16: Write(i, ToHalf(value)); break;
      case DType::kBFloat16: Write(i, ToBFloat16(value)); break;
    }
  }
  bool Equals(size_t i, float value) {
    Array expected(dtype_, 1);
    expected.Set(0, value);
    return std::memcmp(At(i), expected.At(0), ElementSize()) == 0;
  }

 private:
  template <class T>
  void Write(size_t i, T value) {
    std::memcpy(At(i), &value, sizeof value);
  }

  struct Delete {
    void operator()(std::byte* bytes) const { ::operator delete[](bytes, kCacheLine); }
  };

  DType dtype_;
  std::unique_ptr<std::byte[], Delete> bytes_;
};

}  // namespace depthwise
