// The register tile of tall filters on planes and few channels: it walks down a strip of two
// vectors along the width, and keeps the sums of all output rows that an input row has taps for.
// Every load serves as many multiply-adds as the filter has rows, which is any of a few numbers; it
// may have any width. Called by plane.h.
#pragma once

#include "fetch_ahead.h"
#include "plane_tile.h"

namespace depthwise::DEPTHWISE_ISA {

// Whether there are walks; what they gain is measured for AVX-512 alone.
inline constexpr bool kHasTallWalks = kVectorBytes == 64;
// The most rows of their filters, which are odd; for the size of the package.
template <class S>
inline constexpr int kTallestFilter = sizeof(typename S::Element) == 4 ? 11 : 9;
inline constexpr int kTallVectors = 2;
// The most output rows of a walk, for which half of the sums of rows before its first and after its
// last are computed in vain: as many as let it stay in the second-level cache with the rows that it
// fetches, of an output that is not stored past the caches, too. With 16 rows in place of 32 the
// streamed 2160x3840x3 9x9 takes 8% longer, with 64 NHWC 22%; not streamed, 2161x3843x3 5x5 takes
// 21 ms with 16 rows and 48 with 32, but 400x400x3 7x7 8% longer than with 64.
inline constexpr int64_t kWalkedTallBytes = 256 * 1024;
inline constexpr int64_t kLeastTallRows = 16, kLeastStreamedTallRows = 32, kMostTallRows = 64;

template <class S>
DEPTHWISE_SMALL inline int64_t MostWalkedRows(const Geometry& g, const ForwardPlan& plan) {
  const int64_t row = g.in_width * plan.period * int64_t{sizeof(typename S::Element)};
  const int64_t least = plan.stream ? kLeastStreamedTallRows : kLeastTallRows;
  return Max(least, Min(kMostTallRows, kWalkedTallBytes / Max(1, row)));
}

// Whether taps are vectors, one for each phase. Scalars, which single planes could have, lie in
// fewer lines of the cache: float64 NCHW 4x480x640 5x5 takes 10 to 15% less. 16-bit types have
// none, for the size of the package.
template <class S, bool kSeveral>
inline constexpr bool kHasTallVectors = kSeveral || sizeof(typename S::Element) == 2;

// Whether a filter is walked, unless plane_walk.h walks it. Of dilated rows the next ones are not
// fetched: NCHW 3x480x640 5x5 with dilation 2 would take 40% more, but not NHWC, nor 16-bit types.
// Of few columns there is too little to compute for each row: float64 3x2160x3840 7x1 30%. So few
// rows as a tile has are left to it.
template <class S>
DEPTHWISE_SMALL inline bool HasTallWalk(const Geometry& g) {
  constexpr int64_t kSize = sizeof(typename S::Element);
  const bool suits_rows =
      g.dilation_height == 1 || g.channels_last || kSize == 2 || DataBytes(g, kSize) <= kFarBytes;
  return kHasTallWalks && g.filter_height >= 5 && g.filter_height <= kTallestFilter<S> &&
         g.filter_height % 2 == 1 && g.filter_width >= 3 && suits_rows && g.out_height > kPlaneRows;
}

// Columns from which on planes that fill vectors of channels are walked: 16x480x640 7x7 takes 4600
// instead of 6800 us, 32x160x160 750 instead of 870, 32x112x112 5x5 260 instead of 300, but float16
// 32x112x112 7x7 would take 400 instead of 335. Smaller planes are if of the sums of a walk, of
// whole strips and with those before its first row and after its last one, three quarters are not
// in vain; of 16-bit types none: bfloat16 62x62x96 7x7 would take 10% longer.
template <class S>
DEPTHWISE_SMALL inline bool SuitsTallWalk(const Geometry& g) {
  constexpr int64_t kCount = kLanes<typename S::Accumulator>;
  constexpr bool kIsNarrow = sizeof(typename S::Element) == 2;
  if (!HasTallWalk<S>(g)) return false;
  if (g.out_width >= (kIsNarrow ? 12 : 7) * kCount) return true;
  const int64_t strips = CeilDiv(g.out_width, kTallVectors * kCount);
  const double rows = Min(g.out_height, kMostTallRows);
  const double sums = rows * g.out_width;
  const double all = (rows + g.filter_height - 1) * strips * kTallVectors * kCount;
  return !kIsNarrow && sums >= 0.75 * all;
}

// Copies taps and bias in the order in which a walk reads them: of each phase column by column, and
// the bias of all phases after them.
template <class S, bool kSeveral>
inline PlaneArrays<S> PackTallFilter(const PlaneArrays<S>& arrays, typename S::Accumulator* to) {
  using A = typename S::Accumulator;
  using Strip = PlaneStrip<S, kTallVectors, kSeveral, false>;
  const auto copy = [&](const A* from) DEPTHWISE_INLINE_LAMBDA {
    if constexpr (kHasTallVectors<S, kSeveral>) {
      StoreUnaligned(to, Strip::Channels(from));
      to += Strip::kCount;
    } else {
      *to++ = *from;
    }
  };
  PlaneArrays<S> packed = arrays;
  packed.taps = to;
  for (int64_t phase = 0; phase < arrays.phases; ++phase) {
    const A* const taps = arrays.taps + phase * Strip::kCount;
    for (int64_t dj = 0; dj < arrays.filter_width; ++dj) {
      for (int64_t di = 0; di < arrays.window_rows; ++di) {
        copy(taps + (di * arrays.filter_width + dj) * arrays.taps_step);
      }
    }
  }
  packed.bias = to;
  for (int64_t phase = 0; phase < arrays.phases; ++phase) copy(arrays.bias + phase * Strip::kCount);
  return packed;
}

// A walk down a strip for filters of kRows rows, whose taps are vectors if kTapVectors.
template <class S, int kRows, int kVectors, bool kTapVectors, bool kMasked>
struct TallWalk : PlaneStrip<S, kVectors, kTapVectors, kMasked> {
  using Strip = PlaneStrip<S, kVectors, kTapVectors, kMasked>;
  using Strip::arrays, Strip::bias, Strip::masks, Strip::rows, Strip::rows_used, Strip::taps;
  using Strip::Channels, Strip::LoadAll, Strip::Store;
  using typename Strip::A, typename Strip::E, typename Strip::V;
  // Of the output rows that an input row has taps for: sums[k] is of the one that takes tap row k.
  using Sums = V[kRows][kVectors];

  const E* fetched;  // of what to fetch a part with each row, or null

  DEPTHWISE_INLINE void Run(E* out) const {
    constexpr int kHalf = kRows / 2;
    const V added = Channels(bias);
    Sums sums = {};
    const E* row = rows.row;
    const E* next = fetched;
    const int64_t steps = rows_used + kRows - 1;
    for (int64_t step = 0; step < steps; ++step) {
      if (step >= rows.row_begin && step < rows.row_end) {
        // The first rows meet no taps of the later half, the last none of the first half, but for
        // output rows that are not computed here.
        if (step < kHalf) {
          AddRow<0, kHalf - 1>(row, sums);
        } else if (step >= rows_used + kHalf) {
          AddRow<kHalf + 1, kRows - 1>(row, sums);
        } else {
          AddRow<0, kRows - 1>(row, sums);
        }
        row += rows.row_step;
      }
      if (step >= kRows - 1) {
        if (next != nullptr) {
          constexpr int64_t kElements = kVectors * Strip::kCount;
          PrefetchRows<1, kElements * int64_t{sizeof(E)}, false>(next, 0, 1);
          next += kElements;
        }
        Store(sums[kRows - 1], added, out);
        out += arrays.out_row_step;
      }
#pragma GCC unroll 16
      for (int k = kRows - 1; k >= 0; --k) {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) sums[k][v] = k > 0 ? sums[k - 1][v] : V{};
      }
    }
  }

  // Adds what the tap rows kFirst to kLast meet of an input row.
  template <int kFirst, int kLast>
  DEPTHWISE_INLINE void AddRow(const E* row, Sums& sums) const {
    constexpr int kTapSize = kTapVectors ? Strip::kCount : 1;
    const A* tap = taps;
    for (int64_t dj = 0; dj < arrays.filter_width; ++dj, tap += kRows * kTapSize) {
      V x[kVectors];
      LoadAll(row, dj, x);
#pragma GCC unroll 16
      for (int k = kFirst; k <= kLast; ++k) {
        V t = Channels(tap + k * kTapSize);
        Pin(t);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) sums[k][v] += x[v] * t;
      }
    }
  }
};

}  // namespace depthwise::DEPTHWISE_ISA
