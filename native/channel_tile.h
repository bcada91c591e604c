// The register tile whose vectors are channels: two output rows, one or kTallRows, x a few output
// columns of one vector of channels. It reads [rows, columns, channels] either straight from an
// NHWC array or from packed rows with zero padding. Most taps on padding are skipped, in an array
// all. Called by channel_rows.h.
#pragma once

#include "channel_arrays.h"

namespace depthwise::DEPTHWISE_ISA {

// Neighbouring outputs of one column residue: positions [t, t + count) of its axis. Their
// windows span `units` input units, of which [image_begin, image_end) are inside the image.
struct ColumnTile {
  int64_t t, count;
  int64_t units, image_begin, image_end;
};

DEPTHWISE_INLINE ColumnTile ColumnTileAt(const Axis& axis, int64_t t, int64_t count) {
  const int64_t units = (count - 1) * axis.stride + axis.window;
  return {t, count, units, Max(0, axis.unit_begin - t * axis.stride),
          Min(units, axis.unit_end - t * axis.stride)};
}

// Where the input rows begin, for tiles that are unrolled over them: those for kHeight taps along
// the height. They are found once for all whole tiles of a row: to find them for each took 10% of
// the time of an image of 16 channels. Tiles for any height, 0, walk from row to row.
template <class S, int kHeight, int kStride, int kRows>
class UnrolledRows {
 public:
  using E = typename S::Element;
  static constexpr int kCount = kHeight == 0 ? 1 : (kRows - 1) * kStride + kHeight;

  DEPTHWISE_INLINE explicit UnrolledRows(TileRows<E> rows) {
    if constexpr (kHeight == 0) return;
    for (int64_t r = rows.row_begin; r < rows.row_end; ++r, rows.Advance()) rows_[r] = rows.row;
  }
  DEPTHWISE_INLINE const E* operator[](int r) const { return rows_[r]; }

 private:
  const E* rows_[kCount] = {};
};

// kHeight and kWidth are the taps along each axis, and kStride the stride of both in units; or 0
// for any. A partial tile may leave out columns and skip any units outside the image; others skip
// only those that not every tap meets, and have no more, unless padding is packed; of one row none.
// To choose between them as it runs costs a tile of bfloat16 3x3 10%. A tile has kVectors vectors
// of channels and kRows output rows.
template <class S, int kHeight, int kWidth, int kStride, bool kPartial, int kVectors, int kRows>
struct ChannelTile {
  using E = typename S::Element;
  using A = typename S::Accumulator;
  using V = typename S::Vector;
  static constexpr int kCount = kLanes<A>;
  static constexpr int kColumns = kTileColumns<kVectors, kRows>;
  using Sums = V[kVectors][kRows][kColumns];
  using Unrolled = UnrolledRows<S, kHeight, kStride, kRows>;

  const ChannelArrays<S>& arrays;
  TileRows<E> rows;
  const Unrolled& unrolled;
  int64_t rows_used, columns_used;
  int64_t width;                   // taps of a row
  int64_t row_stride;              // kStride, or units between output rows
  int64_t unit_step, unit_stride;  // elements between units, units between output columns
  int64_t unit_begin, unit_end;    // units inside the image
  int64_t tap_begin, tap_end;      // taps of a row that meet them in some column
  Steps in_steps;                  // between units, or between windows if kStride is 0
  Steps out_steps;                 // between output columns
  int64_t second = 0;              // of a pair of vectors: how far from the first

  // `place` is that of the first input channel in the first column, relative to the rows; `out`
  // that of the first output channel.
  template <class Load>
  DEPTHWISE_INLINE void Run(const Load& load, int64_t place, const A* taps, const A* bias,
                            E* out) const {
    Sums sums = {};
    if constexpr (kRows > kChannelRows) {
      // Each row as soon as it is complete, so that its registers serve another one: three at a
      // time. That would take two rows 2 to 5% longer.
      AddAll(load, sums, place, taps, [&](int i) DEPTHWISE_INLINE_LAMBDA {
        if (i < rows_used) StoreRow<false>(load, sums, i, bias, out);
        out = Step(out, arrays.out_row_step);
      });
    } else {
      if constexpr (kHeight != 0) {
        AddAll(load, sums, place, taps, [](int) {});
      } else {
        AddRows(load, sums, place, taps);
      }
      if (kCanStream<S> && arrays.stream) {
        StoreRows<true>(load, sums, bias, out);
      } else {
        StoreRows<false>(load, sums, bias, out);
      }
    }
  }

  template <bool kStream, class Load>
  DEPTHWISE_INLINE void StoreRows(const Load& load, const Sums& sums, const A* bias, E* out) const {
#pragma GCC unroll 2
    for (int i = 0; i < kRows; ++i, out = Step(out, arrays.out_row_step)) {
      if (i >= rows_used) break;
      StoreRow<kStream>(load, sums, i, bias, out);
    }
  }

  template <bool kStream, class Load>
  DEPTHWISE_INLINE void StoreRow(const Load& load, const Sums& sums, int i, const A* bias,
                                 E* out) const {
    V added[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) added[v] = LoadUnaligned<V>(bias + v * kCount);
#pragma GCC unroll 16
    for (int j = 0; j < kColumns; ++j) {
      if (kPartial && j >= columns_used) break;
      E* const place = out_steps.Walk(out, j);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        load.Store(v == 0 ? place : place + second, sums[v][i][j] + added[v], kStream);
      }
    }
  }

  // With all rows unrolled and all taps in registers 3x3 takes 3 to 10% less time than row by row.
  // Calls complete(i) when output row i has all its taps.
  template <class Load, class Complete>
  DEPTHWISE_INLINE void AddAll(const Load& load, Sums& sums, int64_t place, const A* taps,
                               const Complete& complete) const {
    static_assert(kVectors == 1);  // or there would be too many taps
    V tap[kHeight][1][kWidth];
#pragma GCC unroll 8
    for (int di = 0; di < kHeight; ++di) LoadTaps(taps + di * kWidth * kCount, tap[di]);
    ForEachSize<Unrolled::kCount>([&](auto row) DEPTHWISE_INLINE_LAMBDA {
      constexpr int r = decltype(row)::value;
      constexpr int kFirst = r < kHeight ? 0 : (r - kHeight) / kStride + 1;
      constexpr int kLast = r / kStride < kRows ? r / kStride : kRows - 1;
      if (r >= rows.row_begin && r < rows.row_end) {
        const auto tap_of = [&](int i, int v, int dj)
                                DEPTHWISE_INLINE_LAMBDA { return tap[r - i * kStride][v][dj]; };
        AddTaps<kFirst, kLast, kWidth>(load, sums, unrolled[r] + place, tap_of, unit_begin,
                                       unit_end);
      }
      if constexpr (kFirst * kStride + kHeight - 1 == r) complete(kFirst);
    });
  }

  // One input row after the other, first those of output row 0 alone, then those that both have.
  template <class Load>
  DEPTHWISE_INLINE void AddRows(const Load& load, Sums& sums, int64_t place, const A* taps) const {
    TileRows<E> input = rows;
    input.row += place;
    int64_t r = rows.row_begin;
    taps += r * width * kCount;
    const auto add = [&](auto first, auto last, int64_t end) DEPTHWISE_INLINE_LAMBDA {
      constexpr int kFirst = decltype(first)::value, kLast = decltype(last)::value;
      for (; r < end; ++r, input.Advance(), taps += width * kCount) {
        const A* const first_taps = taps - kFirst * row_stride * width * kCount;
        const A* last_taps = taps - kLast * row_stride * width * kCount;
        // Or the compiler carries taps from row to row in registers that it lacks: 470 instead of
        // 380 us for 56x56x96 7x7 with AVX2.
        if constexpr (!kManyRegisters) last_taps = Step(last_taps, 0);
        if constexpr (kWidth != 0) {
          V of_first[kVectors][kWidth], of_last[kVectors][kWidth];
          LoadTaps(first_taps, of_first);
          LoadTaps(last_taps, of_last);
          AddTaps<kFirst, kLast, kWidth>(
              load, sums, input.row, TapsOfTwo<kFirst>(of_first, of_last), unit_begin, unit_end);
        } else if constexpr (kStride == 1) {
          AddRow<kFirst, kLast>(load, sums, input.row, first_taps, last_taps);
        } else {
          AddRowByTaps<kFirst, kLast>(load, sums, input.row, first_taps, last_taps);
        }
      }
    };
    const bool is_one = kRows == 1 || rows_used == 1;
    add(Size<0>{}, Size<0>{}, is_one ? rows.row_end : Min(row_stride, rows.row_end));
    if constexpr (kRows > 1) {
      add(Size<0>{}, Size<1>{}, Min(arrays.window_rows, rows.row_end));
      add(Size<1>{}, Size<1>{}, rows.row_end);
    }
  }

  template <int kTaps>
  DEPTHWISE_INLINE void LoadTaps(const A* taps, V (&tap)[kVectors][kTaps]) const {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
#pragma GCC unroll 8
      for (int dj = 0; dj < kTaps; ++dj) tap[v][dj] = LoadUnaligned<V>(taps + dj * kCount);
      if (v + 1 < kVectors) taps += arrays.taps_step;
    }
  }

  // Of a row of taps those of output row kFirst, and those of the one after it.
  template <int kFirst, int kTaps>
  static DEPTHWISE_INLINE auto TapsOfTwo(const V (&of_first)[kVectors][kTaps],
                                         const V (&of_last)[kVectors][kTaps]) {
    return [&](int i, int v, int dj)
               DEPTHWISE_INLINE_LAMBDA { return (i == kFirst ? of_first : of_last)[v][dj]; };
  }

  // Adds some taps on an input row to the output rows kFirst to kLast: those that `tap` gives for
  // an output row, a vector of channels and a column of taps. Every input vector is loaded once and
  // feeds each tap that needs it: a 3x3 tile of 2 x 7 has 45 loads for 126 multiply-adds. Of the
  // units that they meet [begin, end) are inside the image.
  template <int kFirst, int kLast, int kTaps, class Load, class TapOf>
  DEPTHWISE_INLINE void AddTaps(const Load& load, Sums& sums, const E* row, const TapOf& tap,
                                int64_t begin, int64_t end) const {
    constexpr int kUnits = (kColumns - 1) * kStride + kTaps;
    // Units that may be others, at either end.
    constexpr int kEdge = kPartial ? kUnits : kRows == 1 ? 0 : kTaps - 1;
#pragma GCC unroll 32
    for (int unit = 0; unit < kUnits; ++unit) {
      const E* const from = in_steps.Walk(row, unit);
      if (unit < kEdge && unit < begin) continue;
      if (unit >= kUnits - kEdge && unit >= end) continue;
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        V x = load(v == 0 ? from : from + second);
        Pin(x);
#pragma GCC unroll 16
        for (int j = 0; j < kColumns; ++j) {
          const int dj = unit - j * kStride;
          if (dj < 0 || dj >= kTaps) continue;
#pragma GCC unroll 3
          for (int i = kFirst; i <= kLast; ++i) sums[v][i][j] += x * tap(i, v, dj);
        }
      }
    }
  }

  // Adds the taps of a row of any width, some at a time.
  template <int kFirst, int kLast, class Load>
  DEPTHWISE_INLINE void AddRow(const Load& load, Sums& sums, const E* row, const A* first_taps,
                               const A* last_taps) const {
    int64_t dj = tap_begin;
    row += dj * unit_step;
    const auto add = [&](auto taps) DEPTHWISE_INLINE_LAMBDA {
      constexpr int kTaps = decltype(taps)::value;
      V of_first[kVectors][kTaps], of_last[kVectors][kTaps];
      LoadTaps(first_taps + dj * kCount, of_first);
      LoadTaps(last_taps + dj * kCount, of_last);
      AddTaps<kFirst, kLast, kTaps>(load, sums, row, TapsOfTwo<kFirst>(of_first, of_last),
                                    unit_begin - dj, unit_end - dj);
      dj += kTaps;
      row += kTaps * unit_step;
    };
    // Partial tiles but of float32 have at most 4, for the size of the package: 5x5x512 7x7 of
    // bfloat16 takes 10% longer (Xeon, model 167).
    constexpr int kAll = Load::kMostTaps;
    constexpr int kMost = kPartial && sizeof(E) != 4 && kAll > 4 ? 4 : kAll;
    while (tap_end - dj >= kMost) add(Size<kMost>{});
    const int64_t rest = Max(0, tap_end - dj);
    if constexpr (kMost > 4) {
      if (rest & 4) add(Size<4>{});
    }
    if (rest & 2) add(Size<2>{});
    if (rest & 1) add(Size<1>{});
  }

  // The same tap by tap, for any stride.
  template <int kFirst, int kLast, class Load>
  DEPTHWISE_INLINE void AddRowByTaps(const Load& load, Sums& sums, const E* row,
                                     const A* first_taps, const A* last_taps) const {
    static_assert(kVectors == 1);
    row += tap_begin * unit_step;
    for (int64_t dj = tap_begin; dj < tap_end; ++dj, row += unit_step) {
      const V of_first = LoadUnaligned<V>(first_taps + dj * kCount);
      const V of_last = LoadUnaligned<V>(last_taps + dj * kCount);
      int64_t unit = dj;
      const E* column = row;
#pragma GCC unroll 8
      for (int j = 0; j < kColumns; ++j, unit += unit_stride) {
        const E* const from = in_steps.Walk(column, j);
        if (unit < unit_begin || unit >= unit_end) continue;
        V x = load(from);
        Pin(x);
        sums[0][kFirst][j] += x * of_first;
        if constexpr (kFirst != kLast) sums[0][kLast][j] += x * of_last;
      }
    }
  }
};

// Fetches vector v's share of what the next two output rows add to the input rows of a tile, `size`
// elements of each, and of those output rows, `out_size` of each, if they are fetched, too.
template <class S>
__attribute__((noinline)) void PrefetchNextRows(const ChannelArrays<S>& arrays,
                                                const TileRows<typename S::Element>& rows,
                                                int64_t offset, int64_t size,
                                                const typename S::Element* out, int64_t out_size,
                                                int64_t v) {
  constexpr int64_t kSize = sizeof(typename S::Element);
  const int64_t share = v - arrays.fetch_first;
  PrefetchShare(rows.row + offset + (rows.row_end - rows.row_begin) * rows.row_step,
                rows.row_step * kSize, kChannelRows * arrays.row_stride, size * kSize, share,
                arrays.fetch_shares);
  if (!arrays.fetches_output) return;
  PrefetchShare<true>(out + kChannelRows * arrays.out_row_step, arrays.out_row_step * kSize,
                      kChannelRows, out_size * kSize, share, arrays.fetch_shares);
}

// Fetches a share of what the next tile of a row is the first to touch: its outputs, to be written,
// and for 3x3 without a stride the last two rows of its input. The vectors of channels take turns,
// so that memory is touched in sequence and a tile early, not a line for each pixel when it is
// needed. `offset`, `out` and `v` are as in ComputeTile().
template <bool kInput, class Tile>
DEPTHWISE_INLINE void PrefetchNextTile(const Tile& tile, int64_t offset,
                                       const typename Tile::E* out, int64_t v) {
  constexpr int64_t kShare = Tile::kColumns * Tile::kCount;
  constexpr int64_t kBytes = kShare * int64_t{sizeof(typename Tile::E)};
  constexpr int64_t kSize = sizeof(typename Tile::E);
  const int64_t share = (v - tile.arrays.first_vector) * kShare;
  PrefetchRows<kChannelRows, kBytes, true>(
      out + Tile::kColumns * tile.arrays.out_column_step + share, tile.arrays.out_row_step * kSize,
      tile.rows_used);
  if constexpr (kInput) {
    const int64_t rows = Min(kChannelRows, tile.rows.row_end - tile.rows.row_begin);
    const int64_t first = tile.rows.row_end - tile.rows.row_begin - rows;
    PrefetchRows<kChannelRows, kBytes, false>(tile.rows.row + first * tile.rows.row_step + offset +
                                                  Tile::kColumns * tile.unit_step + share,
                                              tile.rows.row_step * kSize, rows);
  }
}

// Computes a tile for all vectors of channels of one kind. `offset` is its first column, in
// elements from where the rows begin, `out` its first output.
template <class S, int kHeight, int kWidth, int kStride, bool kPartial, VectorOf kVectorOf,
          int kVectors, int kRows>
DEPTHWISE_INLINE void ComputeTile(const ChannelArrays<S>& arrays, const Axis& axis,
                                  const ColumnTile& columns,
                                  const TileRows<typename S::Element>& rows,
                                  const UnrolledRows<S, kHeight, kStride, kRows>& unrolled,
                                  int64_t rows_used, int64_t offset,
                                  const typename S::Accumulator* taps, typename S::Element* out) {
  using E = typename S::Element;
  using Tile = ChannelTile<S, kHeight, kWidth, kStride, kPartial, kVectors, kRows>;
  const int64_t unit_step = axis.in_step * arrays.in_column_step;
  Tile tile{
      .arrays = arrays,
      .rows = rows,
      .unrolled = unrolled,
      .rows_used = rows_used,
      .columns_used = columns.count,
      .width = kWidth != 0 ? kWidth : axis.window,
      .row_stride = kWidth != 0 ? kStride : arrays.row_stride,
      .unit_step = unit_step,
      .unit_stride = axis.stride,
      .unit_begin = columns.image_begin,
      .unit_end = columns.image_end,
      .tap_begin = Max(0, columns.image_begin - (columns.count - 1) * axis.stride),
      .tap_end = Min(axis.window, columns.image_end),
      .in_steps = Steps::Of<E>(kStride != 0 ? unit_step : axis.stride * unit_step),
      .out_steps = Steps::Of<E>(axis.out_step * arrays.out_column_step),
  };
  // The residues of the columns, interleaved, all read the same. What tall tiles read is near.
  const bool fetches = kRows == kChannelRows && arrays.fetch_shares > 0 && axis.out_first == 0;
  constexpr bool kIsEnds = kVectorOf == VectorOf::kEnds;
  const int64_t first = kIsEnds ? arrays.neighbours_end : arrays.first_vector;
  const int64_t last = kIsEnds ? arrays.last_vector : arrays.neighbours_end;
  taps += (first - arrays.first_vector) * arrays.taps_step;
  const typename S::Accumulator* bias =
      arrays.bias + (first - arrays.first_vector) * kLanes<typename S::Accumulator>;
  for (int64_t v = first; v < last; v += kVectors) {
    for (int64_t i = v; fetches && i < v + kVectors; ++i) {
      PrefetchNextRows(arrays, rows, offset, columns.count * axis.stride * unit_step, out,
                       columns.count * axis.out_step * arrays.out_column_step, i);
    }
    // The ends of a whole tile are computed by a partial one.
    if constexpr (kFetchesTiles<S> && kVectors == 1 && (!kPartial || kIsEnds) &&
                  kRows == kChannelRows) {
      if (arrays.fetches_next_tile) {
        PrefetchNextTile<kHeight != 0 && kStride == 1>(tile, offset, out, v);
      }
    }
    // 3x3, which is computed in sequence, fetches rows.
    if constexpr (kFetchesTiles<S> && kHeight == 0 && kVectors == 1) {
      if (arrays.next_images != nullptr) arrays.next_images->FetchShare();
    }
    const int64_t channel = arrays.vectors.First(v);
    if constexpr (kVectors > 1) tile.second = arrays.vectors.First(v + 1) - channel;
    if constexpr (kIsEnds) {
      const EndsLoad<S> load = *arrays.ends;
      tile.Run(load, offset + channel, taps, bias, out + channel);
    } else if constexpr (kVectorOf == VectorOf::kCopies) {
      const SpreadChannels<S>& spread = arrays.spread[v - arrays.first_vector];
      tile.Run(SpreadLoad<S, kPartial>(spread), offset + spread.first, taps, bias, out + channel);
    } else {
      tile.Run(PlainLoad<S>{}, offset + channel, taps, bias, out + channel);
    }
    taps += kVectors * arrays.taps_step;
    bias += kVectors * kLanes<typename S::Accumulator>;
  }
}

// The same for two output rows, out of the way of whole tiles.
template <class S, int kHeight, int kWidth, int kStride, VectorOf kVectorOf>
__attribute__((noinline)) void ComputePartialTile(const ChannelArrays<S>& arrays, const Axis& axis,
                                                  const ColumnTile& columns,
                                                  const TileRows<typename S::Element>& rows,
                                                  int64_t rows_used, int64_t offset,
                                                  const typename S::Accumulator* taps,
                                                  typename S::Element* out) {
  ComputeTile<S, kHeight, kWidth, kStride, true, kVectorOf, 1>(
      arrays, axis, columns, rows, UnrolledRows<S, kHeight, kStride, kChannelRows>(rows), rows_used,
      offset, taps, out);
}

}  // namespace depthwise::DEPTHWISE_ISA
