// Vectors and the instructions that the compiler's vector extensions have no word for: all that
// differs between instruction sets. Included by the kernel headers alone.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define DEPTHWISE_INLINE inline __attribute__((always_inline))
// The same for a lambda. A tile whose step is called and not inlined keeps its sums in memory:
// twice the time for 5x5.
#define DEPTHWISE_INLINE_LAMBDA __attribute__((always_inline))
// Functions that are called once for a call, for a large piece of it or seldom, compiled for size:
// that makes the package 15 kB smaller, and a call 5 ns longer.
#define DEPTHWISE_SMALL __attribute__((cold))

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

// Whether there are tiles for particular widths of filters besides those for any (and 3x3), and for
// bfloat16. x86 CPUs without AVX, from before 2011, do without, for the size of the package.
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

// Fetches the line that holds `place` to the second-level cache; and to the first, to be written.
// (In place of the built-in function: g++ takes a function that does nothing but call it for one
// without effect, and drops the calls; and fetches a line to be written as if to read, unless it is
// told of the instruction, which every 64-bit x86 CPU takes, if need be as none.)
DEPTHWISE_INLINE void Prefetch(const void* place) {
#if defined(__x86_64__)
  asm volatile("prefetcht1 %0" : : "m"(*static_cast<const char*>(place)));
#else
  asm volatile("prfm pldl2keep, %0" : : "Q"(*static_cast<const char*>(place)));
#endif
}

DEPTHWISE_INLINE void PrefetchForWrite(const void* place) {
#if defined(__x86_64__)
  asm volatile("prefetchw %0" : : "m"(*static_cast<const char*>(place)));
#else
  asm volatile("prfm pstl1keep, %0" : : "Q"(*static_cast<const char*>(place)));
#endif
}

template <bool kToWrite>
DEPTHWISE_INLINE void PrefetchLine(const void* place) {
  if constexpr (kToWrite) {
    PrefetchForWrite(place);
  } else {
    Prefetch(place);
  }
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

// Places at multiples of a distance. One and three of it in registers reach three places beyond a
// pointer by the addressing modes of x86, without an instruction; every fourth place moves the
// pointer. With five and seven of it, too, no pointer had to move up to 15 places, but the
// registers were missed elsewhere: 5x5 and 7x7 took 8% more time.
class Steps {
 public:
  template <class E>
  static DEPTHWISE_INLINE Steps Of(int64_t elements) {
    return Steps(elements * int64_t{sizeof(E)});
  }

  // The place that is so many steps, at most 3, from `pointer`. Like all counts here it is known
  // when compiling, as in unrolled loops.
  template <class E>
  DEPTHWISE_INLINE E* From(E* pointer, int count) const {
    switch (count) {
      case 0: return pointer;
      case 1: return Add(pointer, one_);
      case 2: return Add(pointer, 2 * one_);
      default: return Add(pointer, three_);
    }
  }

  // The place `count` of a walk, which visits all of them from 0 on; `pointer` is at place 0 when
  // it begins.
  template <class E>
  DEPTHWISE_INLINE E* Walk(E*& pointer, int count) const {
    if (count > 0 && count % 4 == 0) {
      pointer = Add(pointer, 4 * one_);
      asm("" : "+r"(pointer));
    }
    return From(pointer, count % 4);
  }

 private:
  DEPTHWISE_INLINE explicit Steps(int64_t bytes) : one_(bytes), three_(3 * bytes) {
    asm("" : "+r"(one_), "+r"(three_));
  }

  template <class E>
  static DEPTHWISE_INLINE E* Add(E* pointer, int64_t bytes) {
    return reinterpret_cast<E*>(reinterpret_cast<uintptr_t>(pointer) +
                                static_cast<uintptr_t>(bytes));
  }

  int64_t one_, three_;
};

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

// A choice of lanes: of loads that leave the others zero and do not read them.
#if defined(__AVX512F__)
template <class E>
using LaneMask = uint16_t;

// The lanes [begin, end).
template <class E>
DEPTHWISE_INLINE LaneMask<E> LanesBetween(int64_t begin, int64_t end) {
  return static_cast<uint16_t>((1u << end) - (1u << begin));
}

// Keeps a mask in its register. Otherwise it is moved there for every load, by the unit that half
// of the multiply-adds need: by tiles 128x56x56 3x3 takes 120 instead of 127 us, 37x37x37 15.4
// instead of 16.5 (Xeon, family 6, model 167).
DEPTHWISE_INLINE void PinMask(uint16_t& mask) { asm("" : "+k"(mask)); }

DEPTHWISE_INLINE Vec<float> LoadLanes(const float* from, LaneMask<float> mask) {
  return _mm512_maskz_loadu_ps(mask, from);
}
DEPTHWISE_INLINE Vec<double> LoadLanes(const double* from, LaneMask<double> mask) {
  return _mm512_maskz_loadu_pd(static_cast<__mmask8>(mask), from);
}
DEPTHWISE_INLINE Bits16 LoadLanes(const uint16_t* from, LaneMask<uint16_t> mask) {
  return reinterpret_cast<Bits16>(_mm256_maskz_loadu_epi16(mask, from));
}
// Half a vector, with anything in the lanes above.
DEPTHWISE_INLINE Vec<float> LoadLowHalf(const float* from) {
  return _mm512_castps256_ps512(_mm256_loadu_ps(from));
}
DEPTHWISE_INLINE Vec<double> LoadLowHalf(const double* from) {
  return _mm512_castpd256_pd512(_mm256_loadu_pd(from));
}
DEPTHWISE_INLINE Bits16 LoadLowHalf(const uint16_t* from) {
  return reinterpret_cast<Bits16>(
      _mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
}
DEPTHWISE_INLINE Vec<float> LoadLowHalfLanes(const float* from, LaneMask<float> mask) {
  return _mm512_castps256_ps512(_mm256_maskz_loadu_ps(static_cast<__mmask8>(mask), from));
}
DEPTHWISE_INLINE Vec<double> LoadLowHalfLanes(const double* from, LaneMask<double> mask) {
  return _mm512_castpd256_pd512(_mm256_maskz_loadu_pd(static_cast<__mmask8>(mask), from));
}
DEPTHWISE_INLINE Bits16 LoadLowHalfLanes(const uint16_t* from, LaneMask<uint16_t> mask) {
  return reinterpret_cast<Bits16>(
      _mm256_castsi128_si256(_mm_maskz_loadu_epi16(static_cast<__mmask8>(mask), from)));
}
// Of other lanes the sum is left as it is.
DEPTHWISE_INLINE Vec<float> MultiplyAddLanes(Vec<float> a, Vec<float> b, Vec<float> sum,
                                             LaneMask<float> mask) {
  return _mm512_mask3_fmadd_ps(a, b, sum, mask);
}
DEPTHWISE_INLINE Vec<double> MultiplyAddLanes(Vec<double> a, Vec<double> b, Vec<double> sum,
                                              LaneMask<double> mask) {
  return _mm512_mask3_fmadd_pd(a, b, sum, static_cast<__mmask8>(mask));
}
// The other lanes are those of `others`.
DEPTHWISE_INLINE Vec<float> LoadLanesInto(Vec<float> others, const float* from,
                                          LaneMask<float> mask) {
  return _mm512_mask_loadu_ps(others, mask, from);
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

// Masks are vectors, for which 16 registers have no room to keep.
DEPTHWISE_INLINE void PinMask(__m256i&) {}

DEPTHWISE_INLINE Vec<float> LoadLanes(const float* from, LaneMask<float> mask) {
  return _mm256_maskload_ps(from, mask);
}
DEPTHWISE_INLINE Vec<double> LoadLanes(const double* from, LaneMask<double> mask) {
  return _mm256_maskload_pd(from, mask);
}
DEPTHWISE_INLINE Vec<float> LoadLowHalf(const float* from) {
  return _mm256_castps128_ps256(_mm_loadu_ps(from));
}
DEPTHWISE_INLINE Vec<double> LoadLowHalf(const double* from) {
  return _mm256_castpd128_pd256(_mm_loadu_pd(from));
}
DEPTHWISE_INLINE Vec<float> LoadLowHalfLanes(const float* from, LaneMask<float> mask) {
  return _mm256_castps128_ps256(_mm_maskload_ps(from, _mm256_castsi256_si128(mask)));
}
DEPTHWISE_INLINE Vec<double> LoadLowHalfLanes(const double* from, LaneMask<double> mask) {
  return _mm256_castpd128_pd256(_mm_maskload_pd(from, _mm256_castsi256_si128(mask)));
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
// `to`, in memory form. Without masks these are calls, for the size of the package.
template <class E>
__attribute__((noinline)) inline typename MemoryForm<E>::Vector LoadOneByOne(const E* from,
                                                                             int64_t count) {
  typename MemoryForm<E>::Vector v{};
  for (int64_t lane = 0; lane < count; ++lane) v[lane] = from[lane];
  return v;
}
template <class E>
DEPTHWISE_INLINE typename MemoryForm<E>::Vector LoadFirst(const E* from, int64_t count) {
  if constexpr (kHasLaneMasks<E>) {
    return LoadLanes(from, LanesBetween<E>(0, count));
  } else {
    return LoadOneByOne(from, count);
  }
}
template <class E>
__attribute__((noinline)) inline void StoreOneByOne(E* to, typename MemoryForm<E>::Vector v,
                                                    int64_t count) {
  for (int64_t lane = 0; lane < count; ++lane) to[lane] = v[lane];
}
template <class E>
DEPTHWISE_INLINE void StoreFirst(E* to, typename MemoryForm<E>::Vector v, int64_t count) {
  if constexpr (kHasLaneMasks<E>) {
    StoreLanes(to, v, LanesBetween<E>(0, count));
  } else {
    StoreOneByOne(to, v, count);
  }
}

}  // namespace depthwise::DEPTHWISE_ISA
