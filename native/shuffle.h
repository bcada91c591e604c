// Vectors whose elements change lanes: shuffles of two vectors, permutations, and transposed
// squares. Included by the kernel headers alone.
#pragma once

#include <cstdint>
#include <utility>

#include "simd.h"

namespace depthwise::DEPTHWISE_ISA {

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

template <int kFirst, class V, int... kLane>
DEPTHWISE_INLINE V LanesFrom(V a, V b, std::integer_sequence<int, kLane...>) {
  return Shuffle<(kLane + kFirst)...>(a, b);
}

// The lanes of two vectors that lie one after the other, from kFirst on.
template <int kFirst, class V>
DEPTHWISE_INLINE V LanesFrom(V a, V b) {
  if constexpr (kFirst == 0) return a;
  return LanesFrom<kFirst>(a, b, LanesOf<V>{});
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

#if defined(__AVX512F__)
// Lane i of the result is lane index[i] of the lanes of a, followed by those of b, or zero where
// the mask has none.
DEPTHWISE_INLINE Vec<float> PermuteTwo(Vec<float> a, Vec<float> b, Vec<int32_t> index,
                                       uint16_t mask) {
  return _mm512_maskz_permutex2var_ps(mask, a, reinterpret_cast<__m512i>(index), b);
}
DEPTHWISE_INLINE Vec<float> PermuteTwo(Vec<float> a, Vec<float> b, Vec<int32_t> index) {
  return _mm512_permutex2var_ps(a, reinterpret_cast<__m512i>(index), b);
}
DEPTHWISE_INLINE Vec<double> PermuteTwo(Vec<double> a, Vec<double> b, Vec<int64_t> index) {
  return _mm512_permutex2var_pd(a, reinterpret_cast<__m512i>(index), b);
}
#elif defined(__AVX2__)
// The same without a mask, of an index whose sign says that a lane is one of b.
DEPTHWISE_INLINE Vec<float> PermuteTwo(Vec<float> a, Vec<float> b, Vec<int32_t> index) {
  const auto lanes = reinterpret_cast<__m256i>(index);
  return _mm256_blendv_ps(_mm256_permutevar8x32_ps(a, lanes), _mm256_permutevar8x32_ps(b, lanes),
                          _mm256_castsi256_ps(lanes));
}
#endif

// In each piece of 16 bytes, the first halves (kHigh: the second halves) of two vectors, element by
// element in turn; and every second piece of two vectors that lie one after the other. These are
// the fast shuffles: any that moves elements between pieces takes Zen 4 twice as long.
inline constexpr int kPieceBytes = 16;

template <bool kHigh, class V, int... kLane>
DEPTHWISE_INLINE V InterleaveInPieces(V a, V b, std::integer_sequence<int, kLane...>) {
  constexpr int kCount = sizeof...(kLane), kPiece = kPieceBytes / int{sizeof(a[0])};
  return Shuffle<(kLane / kPiece * kPiece + (kHigh ? kPiece / 2 : 0) + kLane % kPiece / 2 +
                  kLane % 2 * kCount)...>(a, b);
}

template <int kFirst, class V, int... kLane>
DEPTHWISE_INLINE V EverySecondPiece(V a, V b, std::integer_sequence<int, kLane...>) {
  constexpr int kPiece = kPieceBytes / int{sizeof(a[0])};
  return Shuffle<((2 * (kLane / kPiece) + kFirst) * kPiece + kLane % kPiece)...>(a, b);
}

// Every second element of two vectors that lie one after the other, in each piece first those of
// one, then those of the other, which is a single fast shuffle; and a vector of such lanes in the
// order of the elements.
template <int kFirst, class V, int... kLane>
DEPTHWISE_INLINE V EverySecondInPieces(V a, V b, std::integer_sequence<int, kLane...>) {
  constexpr int kCount = sizeof...(kLane), kPiece = kPieceBytes / int{sizeof(a[0])};
  return Shuffle<(kLane / kPiece * kPiece + kLane % (kPiece / 2) * 2 + kFirst +
                  kLane % kPiece / (kPiece / 2) * kCount)...>(a, b);
}

template <int kFirst, class V>
DEPTHWISE_INLINE V EverySecondInPieces(V a, V b) {
  return EverySecondInPieces<kFirst>(a, b, LanesOf<V>{});
}

template <class V, int... kLane>
DEPTHWISE_INLINE V PiecesInOrder(V v, std::integer_sequence<int, kLane...>) {
  constexpr int kCount = sizeof...(kLane), kHalf = kPieceBytes / int{sizeof(v[0])} / 2;
  return Shuffle<(kLane % (kCount / 2) / kHalf * 2 * kHalf + kLane / (kCount / 2) * kHalf +
                  kLane % kHalf)...>(v, v);
}

template <class V>
DEPTHWISE_INLINE V PiecesInOrder(V v) {
  return PiecesInOrder(v, LanesOf<V>{});
}

// Transposes a square of vectors: afterwards lane i of v[j] is what lane j of v[i] was. First the
// small squares of neighbouring vectors within each piece, then the pieces.
template <class V, int kCount>
DEPTHWISE_INLINE void Transpose(V (&v)[kCount]) {
  static_assert(sizeof(V) == kCount * sizeof(v[0][0]));
  constexpr int kPiece = kPieceBytes / int{sizeof(v[0][0])};
  V to[kCount];
#pragma GCC unroll 2
  for (int stage = 1; stage < kPiece; stage *= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < kCount; i += kPiece) {
#pragma GCC unroll 2
      for (int k = 0; k < kPiece / 2; ++k) {
        to[i + 2 * k] = InterleaveInPieces<false>(v[i + k], v[i + k + kPiece / 2], LanesOf<V>{});
        to[i + 2 * k + 1] = InterleaveInPieces<true>(v[i + k], v[i + k + kPiece / 2], LanesOf<V>{});
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < kCount; ++i) v[i] = to[i];
  }
#pragma GCC unroll 4
  for (int stage = kPiece; stage < kCount; stage *= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < kCount / 2; ++i) {
      const int pair = i / kPiece * 2 * kPiece + i % kPiece;
      to[i] = EverySecondPiece<0>(v[pair], v[pair + kPiece], LanesOf<V>{});
      to[i + kCount / 2] = EverySecondPiece<1>(v[pair], v[pair + kPiece], LanesOf<V>{});
    }
#pragma GCC unroll 16
    for (int i = 0; i < kCount; ++i) v[i] = to[i];
  }
}

}  // namespace depthwise::DEPTHWISE_ISA
