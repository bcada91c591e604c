// Vectors and element types: all that differs between instruction sets and dtypes. Each element
// type is one struct with a load and a store that convert to and from its accumulation type.
// Included by kernels.cc and the kernel headers alone.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define DEPTHWISE_INLINE inline __attribute__((always_inline))
// The same for a lambda. A tile whose step is called and not inlined keeps its sums in memory:
// twice the time for 5x5.
#define DEPTHWISE_INLINE_LAMBDA __attribute__((always_inline))

namespace depthwise::DEPTHWISE_ISA {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
inline constexpr int kVectorRegisters = 32;
#elif defined(__AVX2__)
inline constexpr int kVectorBytes = 32;
inline constexpr int kVectorRegisters = 16;
#elif defined(__aarch64__)
inline constexpr int kVectorBytes = 16;
inline constexpr int kVectorRegisters = 32;
#else
inline constexpr int kVectorBytes = 16;
inline constexpr int kVectorRegisters = 16;
#endif

// Whether there are tiles for particular widths of filters besides those for any (and 3x3). x86
// CPUs without AVX, from before 2011, do without, for the size of the package.
#if defined(__aarch64__) || defined(__AVX__)
inline constexpr bool kHasSpecialTiles = true;
#else
inline constexpr bool kHasSpecialTiles = false;
#endif

// A full vector of accumulators A, and an integer vector with as many lanes.
template <class A>
using Vec [[gnu::vector_size(kVectorBytes)]] = A;
template <class A>
inline constexpr int kLanes = kVectorBytes / int{sizeof(A)};

using Vec32 = Vec<uint32_t>;
using Bits16 [[gnu::vector_size(kVectorBytes / 2)]] = uint16_t;

template <class V>
DEPTHWISE_INLINE V LoadUnaligned(const void* from) {
  V v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

template <class V>
DEPTHWISE_INLINE void StoreUnaligned(void* to, V v) {
  std::memcpy(to, &v, sizeof v);
}

// Keeps a loaded vector in a register. Without it g++ 12 folds the load into each multiply-add
// that uses it, which makes the tiles load-bound: 155 instead of 194 GFLOP/s for 3x3.
template <class V>
DEPTHWISE_INLINE void Pin(V& v) {
#if defined(__AVX__)
  asm("" : "+v"(v));
#elif defined(__aarch64__)
  asm("" : "+w"(v));
#else
  asm("" : "+x"(v));
#endif
}

// Makes the compiler step a pointer from place to place. Otherwise g++ 12 computes the address of
// every load of an unrolled tile ahead of time, and spills most of them: 97 instead of 90 us for
// a 112x112x32 image.
template <class E>
DEPTHWISE_INLINE E* Step(E* pointer, int64_t elements) {
  pointer += elements;
  asm("" : "+r"(pointer));
  return pointer;
}

// Places at small multiples of a distance. In registers these four reach 15 of them from one
// pointer by the addressing modes of x86, without an instruction: 14x14x512 3x3 takes 23 instead of
// 27 us.
class Steps {
 public:
  template <class E>
  static DEPTHWISE_INLINE Steps Of(int64_t elements) {
    return Steps(elements * int64_t{sizeof(E)});
  }

  // `count` is known when compiling, as in unrolled loops.
  template <class E>
  DEPTHWISE_INLINE const E* From(const E* pointer, int count) const {
    return reinterpret_cast<const E*>(reinterpret_cast<const char*>(pointer) + Bytes(count));
  }
  template <class E>
  DEPTHWISE_INLINE E* From(E* pointer, int count) const {
    return reinterpret_cast<E*>(reinterpret_cast<char*>(pointer) + Bytes(count));
  }

 private:
  DEPTHWISE_INLINE explicit Steps(int64_t bytes)
      : one_(bytes), three_(3 * bytes), five_(5 * bytes), seven_(7 * bytes) {
    asm("" : "+r"(one_), "+r"(three_), "+r"(five_), "+r"(seven_));
  }

  DEPTHWISE_INLINE int64_t Bytes(int count) const {
    return count <= 8 ? FewBytes(count) : 8 * one_ + FewBytes(count - 8);
  }

  DEPTHWISE_INLINE int64_t FewBytes(int count) const {
    switch (count) {
      case 0: return 0;
      case 1: return one_;
      case 2: return 2 * one_;
      case 3: return three_;
      case 4: return 4 * one_;
      case 5: return five_;
      case 6: return 2 * three_;
      case 7: return seven_;
      default: return 8 * one_;
    }
  }

  int64_t one_, three_, five_, seven_;
};

// Lane i of the result is lane kFrom[i] of the lanes of a, followed by those of b. (GCC 11, which
// is Ubuntu 22.04's, has only the older of the two built-in functions; Clang has only the newer.)
template <int... kFrom, class V>
DEPTHWISE_INLINE V Shuffle(V a, V b) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, kFrom...);
#else
  return __builtin_shuffle(a, b, decltype(a < b){kFrom...});
#endif
}

// The first halves (kHigh: the second halves) of two vectors, element by element in turn; and every
// second element of two vectors that lie one after the other.
template <bool kHigh, class V, int... kLane>
DEPTHWISE_INLINE V InterleaveLanes(V a, V b, std::integer_sequence<int, kLane...>) {
  constexpr int kCount = sizeof...(kLane);
  return Shuffle<((kHigh ? kCount / 2 : 0) + kLane / 2 + kLane % 2 * kCount)...>(a, b);
}

template <int kFirst, class V, int... kLane>
DEPTHWISE_INLINE V EverySecondLane(V a, V b, std::integer_sequence<int, kLane...>) {
  return Shuffle<(2 * kLane + kFirst)...>(a, b);
}

template <class V>
using LanesOf = std::make_integer_sequence<int, int{sizeof(V) / sizeof(V{}[0])}>;

template <bool kHigh, class V>
DEPTHWISE_INLINE V Interleave(V a, V b) {
  return InterleaveLanes<kHigh>(a, b, LanesOf<V>{});
}

template <class V>
DEPTHWISE_INLINE V EvenLanes(V a, V b) {
  return EverySecondLane<0>(a, b, LanesOf<V>{});
}

template <class V>
DEPTHWISE_INLINE V OddLanes(V a, V b) {
  return EverySecondLane<1>(a, b, LanesOf<V>{});
}

// Lane i of the result is lane index[i] of v.
template <class V, class Index>
DEPTHWISE_INLINE V Permute(V v, Index index) {
#if defined(__clang__)
  V result;
  for (int i = 0; i < int{sizeof(V) / sizeof(v[0])}; ++i) result[i] = v[index[i]];
  return result;
#else
  return __builtin_shuffle(v, index);
#endif
}

// Transposes a square of vectors: afterwards lane i of v[j] is what lane j of v[i] was.
template <class V, int kCount>
DEPTHWISE_INLINE void Transpose(V (&v)[kCount]) {
  static_assert(sizeof(V) == kCount * sizeof(v[0][0]));
#pragma GCC unroll 4
  for (int stage = 1; stage < kCount; stage *= 2) {
    V interleaved[kCount];
#pragma GCC unroll 8
    for (int i = 0; i < kCount / 2; ++i) {
      interleaved[2 * i] = Interleave<false>(v[i], v[i + kCount / 2]);
      interleaved[2 * i + 1] = Interleave<true>(v[i], v[i + kCount / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kCount; ++i) v[i] = interleaved[i];
  }
}

template <class V>
DEPTHWISE_INLINE V Abs(V v) {
  using Bits = decltype(v < v);
  const V sign = -V{};
  return reinterpret_cast<V>(reinterpret_cast<Bits>(v) & ~reinterpret_cast<Bits>(sign));
}

template <class V>
DEPTHWISE_INLINE V Sqrt(V v) {
#if defined(__AVX512F__)
  if constexpr (sizeof(v[0]) == 4)
    return _mm512_sqrt_ps(v);
  else
    return _mm512_sqrt_pd(v);
#elif defined(__AVX2__)
  if constexpr (sizeof(v[0]) == 4)
    return _mm256_sqrt_ps(v);
  else
    return _mm256_sqrt_pd(v);
#elif defined(__aarch64__)
  if constexpr (sizeof(v[0]) == 4)
    return vsqrtq_f32(v);
  else
    return vsqrtq_f64(v);
#else
  if constexpr (sizeof(v[0]) == 4)
    return _mm_sqrt_ps(v);
  else
    return _mm_sqrt_pd(v);
#endif
}

// Whether any lane of a comparison's result is true.
template <class Mask>
DEPTHWISE_INLINE bool AnyLane(Mask mask) {
#if defined(__AVX512F__)
  const __m512i bits = reinterpret_cast<__m512i>(mask);
  return _mm512_test_epi32_mask(bits, bits) != 0;
#elif defined(__AVX2__)
  return _mm256_movemask_epi8(reinterpret_cast<__m256i>(mask)) != 0;
#elif defined(__aarch64__)
  return vmaxvq_u32(reinterpret_cast<uint32x4_t>(mask)) != 0;
#else
  return _mm_movemask_epi8(reinterpret_cast<__m128i>(mask)) != 0;
#endif
}

// mask (all bits or none of each lane) ? a : b
DEPTHWISE_INLINE Vec32 Select(Vec32 mask, Vec32 a, Vec32 b) { return (mask & a) | (~mask & b); }

// IEEE binary16 in the low halves of 32-bit lanes to and from binary32 by integer arithmetic, for
// instruction sets without a conversion. Both are exact or round to nearest even once, keep
// infinities, and keep a NaN a (quiet) NaN.
DEPTHWISE_INLINE Vec<float> WidenHalf(Vec32 half) {
  const Vec32 magnitude = half & 0x7fffu;
  // The exponent bias differs by 112; a multiplication also normalises subnormal numbers.
  const Vec<float> finite = reinterpret_cast<Vec<float>>(magnitude << 13) * 0x1p112f;
  const Vec32 special = reinterpret_cast<Vec32>(magnitude >= 0x7c00u);
  const Vec32 quiet = reinterpret_cast<Vec32>(magnitude > 0x7c00u) & 0x400000u;
  const Vec32 bits =
      Select(special, (magnitude << 13) | 0x7f800000u | quiet, reinterpret_cast<Vec32>(finite));
  return reinterpret_cast<Vec<float>>(bits | ((half & 0x8000u) << 16));
}

DEPTHWISE_INLINE Vec32 NarrowToHalf(Vec<float> value) {
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

// A choice of lanes: of loads that leave the others zero and do not read them.
#if defined(__AVX512F__)
template <class E>
using LaneMask = uint16_t;

// The lanes [begin, end).
template <class E>
DEPTHWISE_INLINE LaneMask<E> LanesBetween(int64_t begin, int64_t end) {
  return static_cast<uint16_t>((1u << end) - (1u << begin));
}

DEPTHWISE_INLINE Vec<float> LoadLanes(const float* from, LaneMask<float> mask) {
  return _mm512_maskz_loadu_ps(mask, from);
}
DEPTHWISE_INLINE Vec<double> LoadLanes(const double* from, LaneMask<double> mask) {
  return _mm512_maskz_loadu_pd(static_cast<__mmask8>(mask), from);
}
DEPTHWISE_INLINE Bits16 LoadLanes(const uint16_t* from, LaneMask<uint16_t> mask) {
  return reinterpret_cast<Bits16>(_mm256_maskz_loadu_epi16(mask, from));
}
DEPTHWISE_INLINE void StoreLanes(float* to, Vec<float> v, LaneMask<float> mask) {
  _mm512_mask_storeu_ps(to, mask, v);
}
DEPTHWISE_INLINE void StoreLanes(double* to, Vec<double> v, LaneMask<double> mask) {
  _mm512_mask_storeu_pd(to, static_cast<__mmask8>(mask), v);
}
DEPTHWISE_INLINE void StoreLanes(uint16_t* to, Bits16 v, LaneMask<uint16_t> mask) {
  _mm256_mask_storeu_epi16(to, mask, reinterpret_cast<__m256i>(v));
}
#elif defined(__AVX2__)
template <class E>
using LaneMask = __m256i;

template <class E>
DEPTHWISE_INLINE LaneMask<E> LanesBetween(int64_t begin, int64_t end) {
  if constexpr (sizeof(E) == 8) {
    const __m256i lane = _mm256_setr_epi64x(0, 1, 2, 3);
    return _mm256_andnot_si256(_mm256_cmpgt_epi64(_mm256_set1_epi64x(begin), lane),
                               _mm256_cmpgt_epi64(_mm256_set1_epi64x(end), lane));
  } else {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_andnot_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(begin)), lane),
                               _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(end)), lane));
  }
}

DEPTHWISE_INLINE Vec<float> LoadLanes(const float* from, LaneMask<float> mask) {
  return _mm256_maskload_ps(from, mask);
}
DEPTHWISE_INLINE Vec<double> LoadLanes(const double* from, LaneMask<double> mask) {
  return _mm256_maskload_pd(from, mask);
}
DEPTHWISE_INLINE void StoreLanes(float* to, Vec<float> v, LaneMask<float> mask) {
  _mm256_maskstore_ps(to, mask, v);
}
DEPTHWISE_INLINE void StoreLanes(double* to, Vec<double> v, LaneMask<double> mask) {
  _mm256_maskstore_pd(to, mask, v);
}
#else
template <class E>
struct LaneMask {};
#endif

// Whether there are such loads of E.
#if defined(__AVX512F__)
template <class E>
inline constexpr bool kHasLaneMasks = true;
#elif defined(__AVX2__)
template <class E>
inline constexpr bool kHasLaneMasks = sizeof(E) >= 4;
#else
template <class E>
inline constexpr bool kHasLaneMasks = false;
#endif

template <class E>
struct MemoryForm {
  using Vector = Vec<E>;
};
template <>
struct MemoryForm<uint16_t> {
  using Vector = Bits16;
};
// The first `count` elements at `from`, and zero in the other lanes; and the first `count` lanes to
// `to`, in memory form.
template <class E>
DEPTHWISE_INLINE typename MemoryForm<E>::Vector LoadFirst(const E* from, int64_t count) {
  if constexpr (kHasLaneMasks<E>) {
    return LoadLanes(from, LanesBetween<E>(0, count));
  } else {
    typename MemoryForm<E>::Vector v{};
    for (int64_t lane = 0; lane < count; ++lane) v[lane] = from[lane];
    return v;
  }
}
template <class E>
DEPTHWISE_INLINE void StoreFirst(E* to, typename MemoryForm<E>::Vector v, int64_t count) {
  if constexpr (kHasLaneMasks<E>) {
    StoreLanes(to, v, LanesBetween<E>(0, count));
  } else {
    for (int64_t lane = 0; lane < count; ++lane) to[lane] = v[lane];
  }
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
  // Rounds to nearest even. Rounding could carry a NaN into an infinity: NaNs are cut instead,
  // with the quiet bit set.
  static DEPTHWISE_INLINE Bits16 Narrow(Vector v) {
#if defined(__AVX512F__)
    const __m512i bits = reinterpret_cast<__m512i>(v);
    const __m512i odd_words =
        _mm512_set_epi16(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 31, 29, 27, 25, 23, 21, 19,
                         17, 15, 13, 11, 9, 7, 5, 3, 1);
    const __mmask16 is_odd = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x10000));
    const __mmask16 is_nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    __m512i rounded = _mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff));
    rounded = _mm512_mask_add_epi32(rounded, is_odd, bits, _mm512_set1_epi32(0x8000));
    rounded = _mm512_mask_or_epi32(rounded, is_nan, bits, _mm512_set1_epi32(0x400000));
    return reinterpret_cast<Bits16>(
        _mm512_castsi512_si256(_mm512_permutexvar_epi16(odd_words, rounded)));
#else
    const Vec32 bits = reinterpret_cast<Vec32>(v);
    const Vec32 rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
    const Vec32 nan = reinterpret_cast<Vec32>((bits & 0x7fffffffu) > 0x7f800000u);
    return __builtin_convertvector(Select(nan, bits | 0x400000u, rounded) >> 16, Bits16);
#endif
  }
};

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
#if defined(__AVX512F__)
  _mm_sfence();
#endif
}

}  // namespace depthwise::DEPTHWISE_ISA
