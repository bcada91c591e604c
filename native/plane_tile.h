// The tile of the plane kernel: some output rows of some vectors along the width, of single planes
// or of few channels. Called by plane.h; what it shares with tall_walk_tile.h is here.
#pragma once

#include "pack.h"
#include "tile.h"

namespace depthwise::DEPTHWISE_ISA {

// Output rows and vectors of a tile for filters of any width.
inline constexpr int kPlaneRows = 4;
inline constexpr int kPlaneVectors = kManyRegisters ? 4 : 2;

// The sums of a tile for 3x3: as many rows of one vector, or half of them of two. With 16
// registers, nine of which hold the taps, half of them of one.
inline constexpr int kPlaneSums = 14;

// Rows of two vectors for 5x5 with 16 registers; with more there are walks (tall_walk_tile.h).
// Neighbouring columns seldom lie in one cache line, so that a load takes as long as four
// multiply-adds: it has to serve that many output rows. With this tile 480x640x3 takes 700 instead
// of 930 us (by six rows 730, by four 910).
inline constexpr int kPlaneRowsOf5x5 = 5;

// Only float32 has larger filters with their rows in order (ForEachInputRowInOrder), and that tile,
// for the size of the package.
template <class S>
inline constexpr bool kHasSpecialPlanes = sizeof(typename S::Element) == 4;
template <class S>
inline constexpr bool kHas5x5Planes = kHasSpecialPlanes<S> && !kManyRegisters;

// The filters that a tile is made for: of kTall those of as many rows as it has sums.
enum class PlaneFilter { kAny, k3x3, k5x5, kTall };

// What one item needs to know of its arrays; steps in elements.
template <class S>
struct PlaneArrays {
  // [window_rows, filter_width], taps_step apart: of several channels a vector for each phase, else
  // one accumulator. See PackFilter() and PackBias(), and for walks PackTallFilter().
  const typename S::Accumulator* taps;
  const typename S::Accumulator* bias;
  int64_t taps_step;
  int64_t window_rows;             // units under the filter along the height
  int64_t filter_width, tap_step;  // taps of a row, and between what they meet
  int64_t phases;                  // vectors after which the channels of a row repeat
  int64_t in_size, out_size;       // elements of a row
  int64_t before;                  // of padding, in elements
  int64_t out_row_step;
  bool stream;                         // store past the caches
  const typename S::Element* fetched;  // of walks: from where on they fetch, or null
};

// kVectors vectors of the same phase in some rows, of single or several channels. With kMasked the
// lanes outside the image are zero.
template <class S, int kVectors, bool kSeveral, bool kMasked>
struct PlaneStrip {
  using E = typename S::Element;
  using A = typename S::Accumulator;
  using V = typename S::Vector;
  static constexpr int kCount = kLanes<A>;

  const PlaneArrays<S>& arrays;
  TileRows<E> rows;  // at what the first tap of the first output meets
  const A* taps;     // of the phase
  const A* bias;
  const LaneMask<E>* masks;    // [filter_width, kVectors]
  int64_t rows_used, columns;  // that are stored

  // Between the vectors.
  DEPTHWISE_INLINE int64_t VectorStep() const { return kSeveral ? arrays.phases * kCount : kCount; }

  static DEPTHWISE_INLINE V Channels(const A* from) {
    if constexpr (kSeveral) return LoadUnaligned<V>(from);
    return *from - V{};
  }

  // Vector v of what tap dj meets of an input row, with one of `tile_masks`.
  DEPTHWISE_INLINE V Load(const E* row, int64_t dj, int v, const LaneMask<E>* tile_masks) const {
    const E* const from = row + dj * arrays.tap_step + v * VectorStep();
    if constexpr (kMasked) return S::LoadMasked(from, tile_masks[dj * kVectors + v]);
    return S::Load(from);
  }

  // All vectors of it.
  DEPTHWISE_INLINE void LoadAll(const E* row, int64_t dj, V (&x)[kVectors]) const {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      x[v] = Load(row, dj, v, masks);
      Pin(x[v]);
    }
  }

  DEPTHWISE_INLINE void Store(const V (&row)[kVectors], V added, E* out) const {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const int64_t count = columns - v * VectorStep();
      E* const to = out + v * VectorStep();
      if (count >= kCount) {
        StoreVector<S>(to, row[v] + added, arrays.stream);
      } else if (count > 0) {
        S::StorePartial(to, row[v] + added, count);
      }
    }
  }
};

// A tile of kRows output rows of such a strip.
template <class S, int kRows, int kVectors, PlaneFilter kFilter, bool kSeveral, bool kMasked>
struct PlaneTile : PlaneStrip<S, kVectors, kSeveral, kMasked> {
  using Strip = PlaneStrip<S, kVectors, kSeveral, kMasked>;
  using Strip::arrays, Strip::bias, Strip::masks, Strip::rows, Strip::rows_used, Strip::taps;
  using Strip::Channels, Strip::Load, Strip::LoadAll, Strip::Store, Strip::VectorStep;
  using typename Strip::A, typename Strip::E, typename Strip::V;
  using Sums = V[kRows][kVectors];

  DEPTHWISE_INLINE void Run(E* out) const {
    V sums[kRows][kVectors] = {};
    if constexpr (kFilter == PlaneFilter::k3x3) {
      AddAll(sums);
    } else if constexpr (kFilter == PlaneFilter::k5x5) {
      AddAllOf5x5(sums);
    } else {
      AddByTaps(sums);
    }
    const V added = Channels(bias);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i, out = Step(out, arrays.out_row_step)) {
      if (i >= rows_used) break;
      Store(sums[i], added, out);
    }
  }

  // All rows unrolled, all taps in registers.
  DEPTHWISE_INLINE void AddAll(Sums& sums) const {
    V tap[3][3];
#pragma GCC unroll 3
    for (int di = 0; di < 3; ++di) {
#pragma GCC unroll 3
      for (int dj = 0; dj < 3; ++dj) {
        tap[di][dj] = Channels(taps + (di * 3 + dj) * arrays.taps_step);
      }
    }
    LaneMask<E> pinned[3 * kVectors] = {};
    if constexpr (kMasked) {
#pragma GCC unroll 6
      for (int i = 0; i < 3 * kVectors; ++i) {
        pinned[i] = masks[i];
        PinMask(pinned[i]);
      }
    }
    const E* row = rows.row;
    ForEachSize<kRows + 2>([&](auto size) DEPTHWISE_INLINE_LAMBDA {
      constexpr int r = decltype(size)::value;
      if (r < rows.row_begin || r >= rows.row_end) return;
#pragma GCC unroll 3
      for (int dj = 0; dj < 3; ++dj) {
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) {
          V x = Load(row, dj, v, pinned);
          Pin(x);
#pragma GCC unroll 3
          for (int i = r < 3 ? 0 : r - 2; i <= (r < kRows ? r : kRows - 1); ++i) {
            sums[i][v] += x * tap[r - i][dj];
          }
        }
      }
      row = Step(row, rows.row_step);
    });
  }

  // All rows and taps unrolled; the taps stay in memory.
  DEPTHWISE_INLINE void AddAllOf5x5(Sums& sums) const {
    const Steps rows_back = Steps::Of<A>(-5 * arrays.taps_step);
    const E* row = rows.row;
    ForEachSize<kRows + 4>([&](auto size) DEPTHWISE_INLINE_LAMBDA {
      constexpr int r = decltype(size)::value;
      if (r < rows.row_begin || r >= rows.row_end) return;
      constexpr int kFirst = r < 5 ? 0 : r - 4, kLast = r < kRows ? r : kRows - 1;
      const A* tap = taps + (r - kFirst) * 5 * arrays.taps_step;
      const E* from = row;
      const LaneMask<E>* mask = masks;
#pragma GCC unroll 5
      for (int dj = 0; dj < 5; ++dj) {
        V x[kVectors];
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v, ++mask) {
          if constexpr (kMasked) {
            x[v] = S::LoadMasked(from + v * VectorStep(), *mask);
          } else {
            x[v] = S::Load(from + v * VectorStep());
          }
          Pin(x[v]);
        }
        const A* of_row = tap;
#pragma GCC unroll 8
        for (int i = kFirst; i <= kLast; ++i) {
          V t = Channels(rows_back.Walk(of_row, i - kFirst));
          Pin(t);
#pragma GCC unroll 2
          for (int v = 0; v < kVectors; ++v) sums[i][v] += x[v] * t;
        }
        from = Step(from, arrays.tap_step);
        tap = Step(tap, arrays.taps_step);
      }
      row = Step(row, rows.row_step);
    });
  }

  DEPTHWISE_INLINE void AddByTaps(Sums& sums) const {
    const int64_t width = arrays.filter_width;
    const Steps rows_back = Steps::Of<A>(-width * arrays.taps_step);
    const auto step = [&](auto first, auto last, int64_t r, const E* row) DEPTHWISE_INLINE_LAMBDA {
      const A* tap = taps + r * width * arrays.taps_step;
      for (int64_t dj = 0; dj < width; ++dj, tap += arrays.taps_step) {
        V x[kVectors];
        LoadAll(row, dj, x);
#pragma GCC unroll 4
        for (int i = decltype(first)::value; i <= decltype(last)::value; ++i) {
          V t = Channels(rows_back.From(tap, i));
          Pin(t);
#pragma GCC unroll 4
          for (int v = 0; v < kVectors; ++v) sums[i][v] += x[v] * t;
        }
      }
    };
    if constexpr (kHasSpecialPlanes<S>) {
      if (rows_used == kRows && arrays.window_rows >= kRows) {
        return ForEachInputRowInOrder<kRows>(rows, arrays.window_rows, step);
      }
    }
    ForEachInputRow<kRows>(rows, arrays.window_rows, 1, rows_used, step);
  }
};

}  // namespace depthwise::DEPTHWISE_ISA
