// The element types: each is one struct with loads and stores that convert to and from its
// accumulation type. Included by the kernel headers alone.
#pragma once

#include "simd.h"

namespace depthwise::DEPTHWISE_ISA {

// IEEE binary16 in the low halves of 32-bit lanes to and from binary32 by integer arithmetic, for
// instruction sets without a conversion. Both are exact or round to nearest even once, keep
// infinities, and keep a NaN a (quiet) NaN. Calls, for the size of the package.
__attribute__((noinline)) inline Vec<float> WidenHalf(Vec32 half) {
  const Vec32 magnitude = half & 0x7fffu;
  // The exponent bias differs by 112; a multiplication also normalises subnormal numbers.
  const Vec<float> finite = reinterpret_cast<Vec<float>>(magnitude << 13) * 0x1p112f;
  const Vec32 special = reinterpret_cast<Vec32>(magnitude >= 0x7c00u);
  const Vec32 quiet = reinterpret_cast<Vec32>(magnitude > 0x7c00u) & 0x400000u;
  const Vec32 bits =
      Select(special, (magnitude << 13) | 0x7f800000u | quiet, reinterpret_cast<Vec32>(finite));
  return reinterpret_cast<Vec<float>>(bits | ((half & 0x8000u) << 16));
}

__attribute__((noinline)) inline Vec32 NarrowToHalf(Vec<float> value) {
  const Vec32 bits = reinterpret_cast<Vec32>(value);
  const Vec32 magnitude = bits & 0x7fffffffu;
  const Vec32 sign = (bits >> 16) & 0x8000u;
  const Vec32 normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  // Adding 0.5 makes the floating-point adder round at 2^-24, the last place of a subnormal.
  const Vec32 subnormal =
      reinterpret_cast<Vec32>(reinterpret_cast<Vec<float>>(magnitude) + 0.5f) - 0x3f000000u;
  Vec32 result = Select(reinterpret_cast<Vec32>(magnitude < 0x38800000u), subnormal, normal);
  result = Select(reinterpret_cast<Vec32>(magnitude >= 0x477ff000u), Vec32{} + 0x7c00u, result);
  const Vec32 nan = 0x7e00u | ((magnitude >> 13) & 0x1ffu);
  return sign | Select(reinterpret_cast<Vec32>(magnitude > 0x7f800000u), nan, result);
}

// The types that accumulate in themselves.
template <class A>
struct SelfAccumulating {
  using Element = A;
  using Accumulator = A;
  using Vector = Vec<A>;

  static DEPTHWISE_INLINE Vector Load(const A* from) { return LoadUnaligned<Vector>(from); }
  static DEPTHWISE_INLINE void Store(A* to, Vector v) { StoreUnaligned(to, v); }
  template <class Mask>
  static DEPTHWISE_INLINE Vector LoadMasked(const A* from, Mask mask) {
    return LoadLanes(from, mask);
  }
  static DEPTHWISE_INLINE Vector LoadPartial(const A* from, int64_t count) {
    return LoadFirst(from, count);
  }
  static DEPTHWISE_INLINE Vector LoadHalf(const A* from) { return LoadLowHalf(from); }
  template <class Mask>
  static DEPTHWISE_INLINE Vector LoadHalfMasked(const A* from, Mask mask) {
    return LoadLowHalfLanes(from, mask);
  }
  static DEPTHWISE_INLINE void StorePartial(A* to, Vector v, int64_t count) {
    StoreFirst(to, v, count);
  }
  static DEPTHWISE_INLINE A LoadOne(const A* from) { return *from; }
};

using Float32 = SelfAccumulating<float>;
using Float64 = SelfAccumulating<double>;

// What the two 16-bit types share, given Widen and Narrow between Bits16 and float vectors.
template <class Derived>
struct Narrow16 {
  using Element = uint16_t;
  using Accumulator = float;
  using Vector = Vec<float>;

  static DEPTHWISE_INLINE Vector Load(const uint16_t* from) {
    return Derived::Widen(LoadUnaligned<Bits16>(from));
  }
  static DEPTHWISE_INLINE void Store(uint16_t* to, Vector v) {
    StoreUnaligned(to, Derived::Narrow(v));
  }
  template <class Mask>
  static DEPTHWISE_INLINE Vector LoadMasked(const uint16_t* from, Mask mask) {
    return Derived::Widen(LoadLanes(from, mask));
  }
  static DEPTHWISE_INLINE Vector LoadPartial(const uint16_t* from, int64_t count) {
    return Derived::Widen(LoadFirst(from, count));
  }
  // Only where loads have masks.
  template <class E>
  static DEPTHWISE_INLINE Vector LoadHalf(const E* from) {
    return Derived::Widen(LoadLowHalf(from));
  }
  template <class Mask>
  static DEPTHWISE_INLINE Vector LoadHalfMasked(const uint16_t* from, Mask mask) {
    return Derived::Widen(LoadLowHalfLanes(from, mask));
  }
  static DEPTHWISE_INLINE void StorePartial(uint16_t* to, Vector v, int64_t count) {
    StoreFirst(to, Derived::Narrow(v), count);
  }
  static DEPTHWISE_INLINE float LoadOne(const uint16_t* from) {
    return Derived::Widen(Bits16{} + *from)[0];
  }
};

struct Float16 : Narrow16<Float16> {
  static DEPTHWISE_INLINE Vector Widen(Bits16 bits) {
#if defined(__AVX512F__)
    return _mm512_cvtph_ps(reinterpret_cast<__m256i>(bits));
#elif defined(__F16C__)
    return _mm256_cvtph_ps(reinterpret_cast<__m128i>(bits));
#elif defined(__aarch64__)
    return vcvt_f32_f16(reinterpret_cast<float16x4_t>(bits));
#else
    return WidenHalf(__builtin_convertvector(bits, Vec32));
#endif
  }
  static DEPTHWISE_INLINE Bits16 Narrow(Vector v) {
#if defined(__AVX512F__)
    return reinterpret_cast<Bits16>(_mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__F16C__)
    return reinterpret_cast<Bits16>(_mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__aarch64__)
    return reinterpret_cast<Bits16>(vcvt_f16_f32(v));
#else
    return __builtin_convertvector(NarrowToHalf(v), Bits16);
#endif
  }
};

struct BFloat16 : Narrow16<BFloat16> {
  static DEPTHWISE_INLINE Vector Widen(Bits16 bits) {
#if defined(__AVX512F__)
    // Half the instructions of the general form below, which for 3x3 tiles are the bottleneck.
    const __m512i every_second =
        _mm512_set_epi16(15, 0, 14, 0, 13, 0, 12, 0, 11, 0, 10, 0, 9, 0, 8, 0, 7, 0, 6, 0, 5, 0, 4,
                         0, 3, 0, 2, 0, 1, 0, 0, 0);
    return reinterpret_cast<Vector>(_mm512_maskz_permutexvar_epi16(
        0xaaaaaaaau, every_second, _mm512_castsi256_si512(reinterpret_cast<__m256i>(bits))));
#else
    return reinterpret_cast<Vector>(__builtin_convertvector(bits, Vec32) << 16);
#endif
  }
  // Rounds to nearest even. A NaN stays one: those of sums are the CPU's own or come from an
  // element, and either way their lower halves are zero, from where no rounding carries.
  static DEPTHWISE_INLINE Bits16 Narrow(Vector v) {
#if defined(__AVX512F__)
    const __m512i bits = reinterpret_cast<__m512i>(v);
    const __m512i odd_words =
        _mm512_set_epi16(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 31, 29, 27, 25, 23, 21, 19,
                         17, 15, 13, 11, 9, 7, 5, 3, 1);
    const __mmask16 is_odd = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x10000));
    __m512i rounded = _mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff));
    rounded = _mm512_mask_add_epi32(rounded, is_odd, bits, _mm512_set1_epi32(0x8000));
    return reinterpret_cast<Bits16>(
        _mm512_castsi512_si256(_mm512_permutexvar_epi16(odd_words, rounded)));
#else
    const Vec32 bits = reinterpret_cast<Vec32>(v);
    const Vec32 rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
    return __builtin_convertvector(rounded >> 16, Bits16);
#endif
  }
};

// Whether elements are always packed, and so converted once, not for each tap that meets them:
// float16 where that takes long, bfloat16 for the size of the package.
template <class S>
inline constexpr bool kIsPackedOnly = false;
template <>
inline constexpr bool kIsPackedOnly<BFloat16> = !kHasSpecialTiles;
#if !defined(__AVX512F__) && !defined(__F16C__) && !defined(__aarch64__)
template <>
inline constexpr bool kIsPackedOnly<Float16> = true;
#endif

// Lane numbers: as wide as the accumulators that they permute.
template <class A>
struct IndexOf;
template <>
struct IndexOf<float> {
  using Type = Vec<int32_t>;
};
template <>
struct IndexOf<double> {
  using Type = Vec<int64_t>;
};

// The element type of packed rows.
template <class S>
using Plain = SelfAccumulating<typename S::Accumulator>;

// Whether a full vector of S is a whole cache line, so that it can be stored past the caches.
template <class S>
inline constexpr bool kCanStream =
    kVectorBytes == 64 && sizeof(typename S::Element) == sizeof(typename S::Accumulator);

// Stores a vector; with `stream`, which asks for kCanStream and a 64-byte aligned `to`, past the
// caches: a large output is not read before it is written. Ends with FinishStreams().
template <class S>
DEPTHWISE_INLINE void StoreVector(typename S::Element* to, typename S::Vector v,
                                  [[maybe_unused]] bool stream) {
#if defined(__AVX512F__)
  if constexpr (kCanStream<S>) {
    if (stream) {
      _mm512_stream_si512(reinterpret_cast<__m512i*>(to), reinterpret_cast<__m512i>(v));
      return;
    }
  }
#endif
  S::Store(to, v);
}

// Makes streamed stores visible to other threads before this one says that it is done.
DEPTHWISE_INLINE void FinishStreams() {
#if defined(__AVX2__)
  _mm_sfence();
#endif
}

}  // namespace depthwise::DEPTHWISE_ISA
