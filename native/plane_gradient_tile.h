// The tile of the filter gradient for planes: walks down vectors of columns, each with the sums of
// some taps in registers. Called by plane_filter_gradient.h, which finds the planes.
#pragma once

#include "next_block.h"
#include "tile.h"

namespace depthwise::DEPTHWISE_ISA {

// Taps of a column and of a row whose sums are in registers at a time: 7 x 3 are 21 registers, with
// seven rows of out_backprop and the input beside them. There are walks for some numbers of taps of
// a column, and for two or three of a row.
inline constexpr int kMostTapsDown = 7, kMostTapsAcross = 3;
constexpr bool HasWalk(int down) { return down != 4 && down != 6; }
// Of so many taps of a row that are left, more than one.
DEPTHWISE_INLINE int64_t TapsAcross(int64_t left) {
  return left == 4 ? 2 : Min(kMostTapsAcross, left);
}

// A vector of columns of some output rows, and what some taps meet there. Steps in elements.
template <class A>
struct PlaneGradientWalk {
  using V = Vec<A>;
  static constexpr int kCount = kLanes<A>;

  const A* in;                // what the first of the taps meets in the first output row
  int64_t in_step, tap_step;  // between what it meets in neighbouring rows, and neighbouring taps
  const A* out;
  int64_t out_step;
  A* sums;            // of the first of the taps
  int64_t sums_step;  // between taps of a column
  // Output rows, and those where the first tap of a column meets the image: from `begin` on, which
  // is less than the taps are, to `end`, which is less than that more than `rows`.
  int64_t rows, begin, end;
  LaneMask<A> masks[kMostTapsAcross]{};  // of each tap of a row, where what it meets is there

  // Adds the products to the sums of kDown taps of kAcross columns. `rows` are at least kDown.
  template <int kDown, int kAcross>
  __attribute__((noinline)) void Run() const {
    V total[kAcross][kDown];
    const A* row[kAcross];
    LaneMask<A> mask[kAcross];
#pragma GCC unroll 8
    for (int j = 0; j < kAcross; ++j) {
      row[j] = in + j * tap_step;
      mask[j] = masks[j];
      PinMask(mask[j]);
#pragma GCC unroll 8
      for (int i = 0; i < kDown; ++i) {
        total[j][i] = LoadUnaligned<V>(sums + i * sums_step + j * kCount);
      }
    }
    const A* from = out;
    const auto next_out = [&]() DEPTHWISE_INLINE_LAMBDA {
      V y = LoadUnaligned<V>(from);
      Pin(y);
      from += out_step;
      return y;
    };
    const auto skip = [&]() DEPTHWISE_INLINE_LAMBDA {
#pragma GCC unroll 8
      for (int j = 0; j < kAcross; ++j) row[j] += in_step;
    };
    // The products of an input row with what the taps [first, last] of a column meet on it.
    const auto add = [&](auto first, auto last, auto&& met) DEPTHWISE_INLINE_LAMBDA {
#pragma GCC unroll 8
      for (int j = 0; j < kAcross; ++j) {
        V x = LoadUnaligned<V>(row[j]);
        Pin(x);
#pragma GCC unroll 8
        for (int i = decltype(first)::value; i <= decltype(last)::value; ++i) {
          total[j][i] = MultiplyAddLanes(x, met(i), total[j][i], mask[j]);
        }
      }
      skip();
    };

    V window[kDown];  // rows of out_backprop, from the last one back
    ForEachSize<kDown - 1>([&](auto at) DEPTHWISE_INLINE_LAMBDA {
      constexpr int kAt = decltype(at)::value;
      window[kDown - 2 - kAt] = next_out();
      if (kAt < begin) return skip();
      add(Size<0>{}, at,
          [&](int i) DEPTHWISE_INLINE_LAMBDA { return window[kDown - 2 - kAt + i]; });
    });
    int64_t t = kDown - 1;
    for (; t + kDown <= rows; t += kDown) {
      V next[kDown];
      ForEachSize<kDown>([&](auto at) DEPTHWISE_INLINE_LAMBDA {
        constexpr int kAt = decltype(at)::value;
        next[kAt] = next_out();
        add(Size<0>{}, Size<kDown - 1>{}, [&](int i) DEPTHWISE_INLINE_LAMBDA {
          return i <= kAt ? next[kAt - i] : window[i - kAt - 1];
        });
      });
#pragma GCC unroll 8
      for (int i = 0; i < kDown; ++i) window[i] = next[kDown - 1 - i];
    }
    for (; t < rows; ++t) {
#pragma GCC unroll 8
      for (int i = kDown - 1; i > 0; --i) window[i] = window[i - 1];
      window[0] = next_out();
      add(Size<0>{}, Size<kDown - 1>{}, [&](int i) DEPTHWISE_INLINE_LAMBDA { return window[i]; });
    }
    ForEachSize<kDown - 1>([&](auto at) DEPTHWISE_INLINE_LAMBDA {
      constexpr int kFirst = decltype(at)::value + 1;
      if (rows - 1 + kFirst >= end) return;
      add(Size<kFirst>{}, Size<kDown - 1>{},
          [&](int i) DEPTHWISE_INLINE_LAMBDA { return window[i - kFirst]; });
    });

#pragma GCC unroll 8
    for (int j = 0; j < kAcross; ++j) {
#pragma GCC unroll 8
      for (int i = 0; i < kDown; ++i) {
        StoreUnaligned(sums + i * sums_step + j * kCount, total[j][i]);
      }
    }
  }

  // The same for numbers known when running.
  DEPTHWISE_INLINE void Run(int64_t down, int64_t across) const {
    ForEachSize<kMostTapsDown>([&](auto i) DEPTHWISE_INLINE_LAMBDA {
      constexpr int kDown = decltype(i)::value + 1;
      if constexpr (HasWalk(kDown)) {
        if (down == kDown) across == 2 ? Run<kDown, 2>() : Run<kDown, 3>();
      }
    });
  }
};

// Fetches the planes after those of a tile, a share with each of the first `walks` walks.
template <class E>
class NextPlane : public NextPlanes<E, false> {
 public:
  NextPlane(const E* in, int64_t in_size, const E* out, int64_t out_size, int64_t walks)
      : walks_(walks) {
    this->in_ = {in, in_size};
    this->out_ = {out, out_size};
  }
  DEPTHWISE_INLINE void FetchShare() {
    done_ = Min(done_ + 1, walks_);
    this->Fetch(done_, walks_);
  }

 private:
  int64_t done_ = 0, walks_;
};

// A tile of some output rows and columns of a plane.
template <class A>
struct PlaneGradientTile {
  static constexpr int64_t kCount = kLanes<A>;

  const A* in;   // column 0 of the input row at row_begin, relative to the first window
  const A* out;  // column 0 of the first output row
  int64_t in_row_step, out_row_step;  // between units, and output rows
  int64_t row_begin, row_end;         // of the units of all windows, those inside the image
  int64_t rows_used, first, last;     // output rows, and columns
  int64_t filter_height, filter_width;
  int64_t row_stride;                    // between output rows, in units
  int64_t in_width, dilation, pad_left;  // along the width
  A* sums;                               // [filter_height, filter_width, lanes], to be added to

  void Run(NextPlane<A>& next) const {
    // Taps of a column that are row_stride apart: from one output row to the next each meets what
    // the tap after it met.
    for (int64_t phase = 0; phase < Min(row_stride, filter_height); ++phase) {
      for (int64_t di = phase; di < filter_height;) {
        const auto row_of = [&](int64_t unit) {
          return row_stride == 1 ? unit - di : CeilDiv(unit - di, row_stride);
        };
        const int64_t begin = row_of(row_begin), end = row_of(row_end);
        int64_t down = Min(kMostTapsDown, row_of(filter_height));
        // Rows that no tap needs are left out.
        int64_t skipped, used;
        for (;; --down) {
          skipped = Max(0, begin - (down - 1));
          used = Min(rows_used, end) - skipped;
          if (down == 1 || (HasWalk(static_cast<int>(down)) && used >= down)) break;
        }
        PlaneGradientWalk<A> walk{
            .in = in + (di - row_begin + skipped * row_stride) * in_row_step - pad_left,
            .in_step = row_stride * in_row_step,
            .tap_step = dilation,
            .out = out + skipped * out_row_step,
            .out_step = out_row_step,
            .sums = sums + di * filter_width * kCount,
            .sums_step = row_stride * filter_width * kCount,
            .rows = used,
            .begin = Max(0, begin - skipped),
            .end = Min(rows_used + down - 1, end) - skipped,
        };
        if (walk.rows > 0 && walk.end > walk.begin) RunWalks(walk, down, next);
        di += down * row_stride;
      }
    }
  }

  // The walks down all columns for all taps of a row.
  DEPTHWISE_INLINE void RunWalks(const PlaneGradientWalk<A>& all, int64_t down,
                                 NextPlane<A>& next) const {
    for (int64_t column = first; column < last; column += kCount) {
      const int64_t lanes = Min(kCount, last - column);
      PlaneGradientWalk<A> walk = all;
      walk.in += column;
      walk.out += column;
      int64_t in_column = column - pad_left;
      for (int64_t left = filter_width; left > 0;) {
        const int64_t across = TapsAcross(left);
        for (int64_t j = 0; j < across; ++j, in_column += dilation) {
          walk.masks[j] = LanesBetween<A>(Min(lanes, Max(0, -in_column)),
                                          Min(lanes, Max(0, in_width - in_column)));
        }
        walk.Run(down, across);
        walk.in += across * dilation;
        walk.sums += across * kCount;
        left -= across;
        next.FetchShare();
      }
    }
  }
};

}  // namespace depthwise::DEPTHWISE_ISA
