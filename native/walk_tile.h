// The register tile of a walk down a plane (NCHW): a strip of outputs from the top down, of one
// plane or of two in turn. Each input row is loaded once; what further taps meet are neighbours of
// these columns, with a stride those of the even ones and of the odd. The sums of the output rows
// that an input row has taps for are in registers, and move on by one with each output row. Called
// by plane_walk.h.
#pragma once

#include "fetch_ahead.h"
#include "shuffle.h"
#include "tile.h"

namespace depthwise::DEPTHWISE_ISA {

// What one item needs to know of its arrays; steps in elements.
template <class S>
struct WalkArrays {
  const typename S::Accumulator* taps;  // [size, size], a vector apart, of which a plane has a lane
  const typename S::Accumulator* bias;
  int64_t out_row_step;
  int64_t fetch_ahead;                     // how far ahead the input is fetched, or 0
  bool stream;                             // store past the caches
  int64_t in_plane, out_plane, tap_plane;  // from the first of two planes to the second
};

// The lanes inside the image of all loads of a row of a strip that begins at output column
// `position`.
template <class E, int kLoads>
struct WalkMasks {
  int64_t position = -1;
  LaneMask<E> masks[kLoads];
};

// A strip of kVectors vectors of outputs of each of kPlanes planes, with kSize x kSize taps and a
// stride of kStride.
template <class S, int kSize, int kStride, int kVectors, int kPlanes = 1>
struct PlaneWalk {
  using E = typename S::Element;
  using A = typename S::Accumulator;
  using V = typename S::Vector;
  static constexpr int kCount = kLanes<A>;
  // A row is loaded as whole vectors, and the first elements of one more.
  static constexpr int kWhole = kStride * kVectors, kMore = kSize - kStride;
  static constexpr int64_t kElements = kWhole * kCount + kMore;
  using Masks = WalkMasks<E, kWhole + 1>;
  // Output rows that an input row has taps for; with a stride an odd row has one less.
  static constexpr int kActive = (kSize - 1) / kStride + 1;
  using Row = V[kPlanes][kVectors];
  // The taps of 3x3 stay in registers, unless the sums leave no room.
  static constexpr bool kKeepsTaps = kSize == 3 && kVectors <= 2 && kPlanes == 1;
  using Taps = V[kSize][kSize];

  const WalkArrays<S>& arrays;
  TileRows<E> rows;  // at what the first tap of the first output meets
  const Masks& masks;
  int64_t rows_used, columns;  // that are stored

  // For a row of in_width elements, of which the first load is at column `first`.
  static void MakeMasks(int64_t position, int64_t first, int64_t in_width, Masks* of_strip) {
    of_strip->position = position;
    for (int k = 0; k <= kWhole; ++k, first += kCount) {
      const int64_t end = Min(k < kWhole ? kCount : kMore, Max(0, in_width - first));
      of_strip->masks[k] = LanesBetween<E>(Min(end, Max(0, -first)), end);
    }
  }

  DEPTHWISE_INLINE V TapOf(int di, int dj, int plane) const {
    return arrays.taps[(di * kSize + dj) * kCount + plane * arrays.tap_plane] - V{};
  }

  DEPTHWISE_INLINE void Run(E* out) const {
    LaneMask<E> pinned[kWhole + 1];
#pragma GCC unroll 5
    for (int k = 0; k <= kWhole; ++k) {
      pinned[k] = masks.masks[k];
      PinMask(pinned[k]);
    }
    Taps kept;
    if constexpr (kKeepsTaps) {
#pragma GCC unroll 9
      for (int k = 0; k < kSize * kSize; ++k)
        kept[k / kSize][k % kSize] = TapOf(k / kSize, k % kSize, 0);
    }
    V bias[kPlanes];
#pragma GCC unroll 2
    for (int p = 0; p < kPlanes; ++p) {
      bias[p] = arrays.bias[p * arrays.tap_plane] - V{};
      if constexpr (kPlanes > 1) Pin(bias[p]);
    }
    Row sums[kActive] = {};
    const E* row = rows.row;
    const int64_t steps = rows_used + kActive - 1;
    for (int64_t step = 0; step < steps; ++step) {
      AddRow<0>(step * kStride, pinned, kept, row, sums);
      if (step >= kActive - 1) {
        Store(sums[kActive - 1], bias, out);
        out += arrays.out_row_step;
      }
      if constexpr (kStride == 2) {
        if (step < steps - 1) AddRow<1>(step * kStride + 1, pinned, kept, row, sums);
      }
#pragma GCC unroll 5
      for (int k = kActive - 1; k >= 0; --k) {
        ForEachVector([&](int p, int v) DEPTHWISE_INLINE_LAMBDA {
          sums[k][p][v] = k > 0 ? sums[k - 1][p][v] : V{};
        });
      }
    }
  }

  template <class Body>
  static DEPTHWISE_INLINE void ForEachVector(Body&& body) {
#pragma GCC unroll 2
    for (int p = 0; p < kPlanes; ++p) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) body(p, v);
    }
  }

  // Adds what the taps of row kFirst, kFirst + kStride and so on of the filter meet of input row r,
  // if it is inside the image.
  template <int kFirst>
  DEPTHWISE_INLINE void AddRow(int64_t r, const LaneMask<E> (&pinned)[kWhole + 1], const Taps& kept,
                               const E*& row, Row (&sums)[kActive]) const {
    if (r < rows.row_begin || r >= rows.row_end) return;
    if (arrays.fetch_ahead > 0) {
      constexpr int64_t kBytes = kWhole * kCount * int64_t{sizeof(E)};
      // Beyond the end of two planes are the next two.
      const bool is_beyond =
          kPlanes > 1 && (rows.row_end - r) * rows.row_step <= arrays.fetch_ahead;
      PrefetchRows<kPlanes, kBytes, false>(
          row + arrays.fetch_ahead + (is_beyond ? arrays.in_plane : 0),
          arrays.in_plane * int64_t{sizeof(E)}, kPlanes);
    }
    V parted[kPlanes][kStride][kVectors + 1];
#pragma GCC unroll 2
    for (int p = 0; p < kPlanes; ++p) LoadRow(row + p * arrays.in_plane, pinned, parted[p]);
    row += rows.row_step;
    ForEachSize<kSize>([&](auto size) DEPTHWISE_INLINE_LAMBDA {
      constexpr int dj = decltype(size)::value;
      Row x;
      ForEachVector([&](int p, int v) DEPTHWISE_INLINE_LAMBDA {
        const V* const columns_of = parted[p][dj % kStride];
        x[p][v] = LanesFrom<dj / kStride>(columns_of[v], columns_of[v + 1]);
        Pin(x[p][v]);
      });
#pragma GCC unroll 5
      for (int k = 0; k * kStride + kFirst < kSize; ++k) {
        const int di = k * kStride + kFirst;
#pragma GCC unroll 2
        for (int p = 0; p < kPlanes; ++p) {
          V tap = kKeepsTaps ? kept[di][dj] : TapOf(di, dj, p);
          // Of a single vector a tap is an operand from memory.
          if constexpr (!kKeepsTaps && kVectors > 1) Pin(tap);
#pragma GCC unroll 4
          for (int v = 0; v < kVectors; ++v) sums[k][p][v] += x[p][v] * tap;
        }
      }
    });
  }

  // The columns of a row, with a stride the even and the odd ones.
  static DEPTHWISE_INLINE void LoadRow(const E* row, const LaneMask<E> (&pinned)[kWhole + 1],
                                       V (&parted)[kStride][kVectors + 1]) {
    V loaded[kWhole + 1];
#pragma GCC unroll 5
    for (int k = 0; k <= kWhole; ++k) {
      loaded[k] = S::LoadMasked(row + k * kCount, pinned[k]);
      if constexpr (kStride == 1) parted[0][k] = loaded[k];
    }
    if constexpr (kStride == 2) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        parted[0][v] = EvenLanes(loaded[2 * v], loaded[2 * v + 1]);
        parted[1][v] = OddLanes(loaded[2 * v], loaded[2 * v + 1]);
      }
      const V more = loaded[kWhole];
      parted[0][kVectors] = kMore > 1 ? EvenLanes(more, more) : more;
      parted[1][kVectors] = OddLanes(more, more);
    }
  }

  DEPTHWISE_INLINE void Store(const Row& row, const V (&bias)[kPlanes], E* out) const {
#pragma GCC unroll 2
    for (int p = 0; p < kPlanes; ++p) {
      E* const to = out + p * arrays.out_plane;
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const int64_t count = columns - v * kCount;
        if (count >= kCount) {
          StoreVector<S>(to + v * kCount, row[p][v] + bias[p], arrays.stream);
        } else if (count > 0) {
          S::StorePartial(to + v * kCount, row[p][v] + bias[p], count);
        }
      }
    }
  }
};

}  // namespace depthwise::DEPTHWISE_ISA
