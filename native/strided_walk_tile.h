// The walk down a plane (NCHW) of 3x3 with a stride of 2 for 16 registers: a strip of one vector of
// outputs, all taps in registers. Beside them there is no room to shift what was loaded, so that
// each tap of a row loads what it meets. Called by plane_walk.h.
#pragma once

#include "walk_tile.h"

namespace depthwise::DEPTHWISE_ISA {

template <class S>
struct StridedWalk {
  using E = typename S::Element;
  using A = typename S::Accumulator;
  using V = typename S::Vector;
  static constexpr int kCount = kLanes<A>;
  // The two vectors under the first taps of a row, of which the odd lanes are under the second
  // ones, and the two under the third.
  static constexpr int kLoads = 4;
  static constexpr int64_t kOffsets[kLoads] = {0, kCount, 2, kCount + 2};
  static constexpr int64_t kElements = 2 * kCount + 2;
  struct Masks : WalkMasks<E, kLoads> {
    bool are_full;
  };

  const WalkArrays<S>& arrays;
  TileRows<E> rows;  // at what the first tap of the first output meets
  const Masks& masks;
  int64_t rows_used, columns;  // that are stored

  // For a row of in_width elements, of which the first load is at column `first`.
  static void MakeMasks(int64_t position, int64_t first, int64_t in_width, Masks* of_strip) {
    of_strip->position = position;
    of_strip->are_full = first >= 0 && first + kElements <= in_width;
    for (int k = 0; k < kLoads; ++k) {
      const int64_t at = first + kOffsets[k];
      of_strip->masks[k] = LanesInside<S>(at, in_width);
    }
  }

  DEPTHWISE_INLINE void Run(E* out) const {
    if (masks.are_full) {
      Walk<false>(out);
    } else {
      Walk<true>(out);
    }
  }

  template <bool kMasked>
  DEPTHWISE_INLINE void Walk(E* out) const {
    V taps[3][3];
#pragma GCC unroll 9
    for (int k = 0; k < 9; ++k) taps[k / 3][k % 3] = arrays.taps[k * kCount] - V{};
    const V bias = *arrays.bias - V{};
    const E* row = rows.row;
    V sum = {};
    // Input row 2 i is under the last taps of output row i - 1 and the first of i, the row after it
    // under the second ones.
    const auto step = [&](int64_t i, auto inside) DEPTHWISE_INLINE_LAMBDA {
      constexpr bool kInside = decltype(inside)::value != 0;
      V next = {};
      if (kInside || IsInside(2 * i)) {
        ForEachTap<kMasked>(row, [&](V x, int dj) DEPTHWISE_INLINE_LAMBDA {
          sum += x * taps[2][dj];
          next += x * taps[0][dj];
        });
      }
      if (kInside || i > 0) {
        const V ordered = PiecesInOrder(sum) + bias;
        if (columns >= kCount) {
          S::Store(out, ordered);
        } else {
          S::StorePartial(out, ordered, columns);
        }
        out += arrays.out_row_step;
      }
      sum = next;
      if (kInside || IsInside(2 * i + 1)) {
        ForEachTap<kMasked>(row,
                            [&](V x, int dj) DEPTHWISE_INLINE_LAMBDA { sum += x * taps[1][dj]; });
      }
    };
    // Where both rows are inside the image nothing has to be checked. (Rows of a strip that lies in
    // the padding may begin, and end, beyond it.)
    const int64_t inside_begin = Max(1, (rows.row_begin + 1) / 2);
    const int64_t inside_end = Min(rows_used, rows.row_end / 2);
    int64_t i = 0;
    for (; i < Min(rows_used + 1, inside_begin); ++i) step(i, Size<0>{});
    for (; i < inside_end; ++i) step(i, Size<1>{});
    for (; i <= rows_used; ++i) step(i, Size<0>{});
  }

  DEPTHWISE_INLINE bool IsInside(int64_t r) const {
    return r >= rows.row_begin && r < rows.row_end;
  }

  // Calls add(x, dj) with what each tap of a row meets, every lane of which belongs to the output
  // that PiecesInOrder() moves there; and goes on to the next row.
  template <bool kMasked, class Add>
  DEPTHWISE_INLINE void ForEachTap(const E*& row, Add&& add) const {
    if (arrays.fetch_ahead > 0) {
      PrefetchRows<1, 2 * kVectorBytes, false>(row + arrays.fetch_ahead, 0, 1);
    }
    const auto load = [&](int k) DEPTHWISE_INLINE_LAMBDA {
      if constexpr (kMasked) return S::LoadMasked(row + kOffsets[k], masks.masks[k]);
      return S::Load(row + kOffsets[k]);
    };
    V a = load(0), b = load(1);
    Pin(a);
    Pin(b);
    add(EverySecondInPieces<0>(a, b), 0);
    add(EverySecondInPieces<1>(a, b), 1);
    add(EverySecondInPieces<0>(load(2), load(3)), 2);
    row += rows.row_step;
  }
};

}  // namespace depthwise::DEPTHWISE_ISA
