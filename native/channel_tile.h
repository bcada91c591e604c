// The register tile whose vectors are channels: two output rows x a few output columns of one
// vector of channels. It reads [rows, columns, channels] either straight from an NHWC array (then
// taps on padding are skipped) or from packed rows with zero padding. Called by direct.h and
// block.h.
#pragma once

#include "tile.h"

namespace depthwise::DEPTHWISE_ISA {

inline constexpr int kChannelRows = 2;
inline constexpr int kChannelColumns = kManyRegisters ? 7 : 4;

// What one call needs to know of its arrays; steps in elements.
template <class S>
struct ChannelArrays {
  // Vectors of accumulators, taps_step for each vector of channels: see PackFilterClasses().
  const typename S::Accumulator* taps;
  int64_t taps_step;
  const typename S::Accumulator* bias;     // a vector for each vector of channels: see PackBias()
  int64_t window_rows;                     // units under the filter along the height
  int64_t row_stride;                      // between output rows, in units
  int64_t column_residues, column_stride;  // of the column axis
  int64_t first_column;                    // the input column where rows begin
  int64_t in_column_step;                  // between neighbouring columns
  int64_t out_row_step, out_column_step;
  // The vectors of channels to compute; vector v starts at channel v * lanes, but the last one of
  // all `channels` ends with them, and overlaps the one before rather than being a partial one.
  int64_t channels, first_vector, last_vector;
  bool prefetch;     // fetch the input of the next two output rows ahead
  bool stream;       // store past the caches
  bool has_padding;  // columns outside the image are there, and zero
};

// kWidth and kStride are the taps of a row and the stride in units, or 0 for any. With kClip only
// the columns [unit_begin, unit_end) of the tile's windows are read.
template <class S, int kWidth, int kStride, bool kClip>
struct ChannelTile {
  using E = typename S::Element;
  using A = typename S::Accumulator;
  using V = typename S::Vector;
  static constexpr int kCount = kLanes<A>;

  const ChannelArrays<S>& arrays;
  TileRows<E> rows;
  int64_t width;                   // kWidth, or the taps of a row
  int64_t unit_step, unit_stride;  // elements between units, units between output columns
  int64_t unit_begin, unit_end;
  int64_t tap_begin, tap_end;  // taps of a row that meet the image in some column
  int64_t out_column_step;
  int64_t rows_used, columns_used;

  DEPTHWISE_INLINE void Run(int64_t channel, const A* taps, const A* bias, E* out) const {
    V sums[kChannelRows][kChannelColumns] = {};
    const auto step = [&](auto first, auto last, int64_t r, const E* row) DEPTHWISE_INLINE_LAMBDA {
      constexpr int kFirst = decltype(first)::value, kLast = decltype(last)::value;
      const A* tap_row = taps + (r - kLast * arrays.row_stride) * width * kCount;
      if constexpr (kWidth != 0) {
        AddRowUnrolled<kFirst, kLast>(sums, row + channel, tap_row);
      } else {
        AddRow<kFirst, kLast>(sums, row + channel, tap_row);
      }
    };
    ForEachInputRow<kChannelRows>(rows, arrays.window_rows, arrays.row_stride, rows_used, step);
    out += channel;
    const V added = LoadUnaligned<V>(bias);
#pragma GCC unroll 2
    for (int i = 0; i < kChannelRows; ++i) {
      if (i >= rows_used) break;
      E* to = out;
#pragma GCC unroll 8
      for (int j = 0; j < kChannelColumns; ++j, to = Step(to, out_column_step)) {
        if (kClip && j >= columns_used) break;
        StoreVector<S>(to, sums[i][j] + added, arrays.stream);
      }
      out += arrays.out_row_step;
    }
  }

  // Every input vector is loaded once and feeds each tap that needs it: a 3x3 tile of 2 x 7 has
  // 54 loads for 126 multiply-adds.
  template <int kFirst, int kLast>
  DEPTHWISE_INLINE void AddRowUnrolled(V (&sums)[kChannelRows][kChannelColumns], const E* row,
                                       const A* taps) const {
    V tap[kChannelRows][kWidth];
#pragma GCC unroll 2
    for (int i = kLast; i >= kFirst; --i) {
#pragma GCC unroll 8
      for (int dj = 0; dj < kWidth; ++dj) tap[i][dj] = LoadUnaligned<V>(taps + dj * kCount);
      taps += arrays.row_stride * kWidth * kCount;
    }
#pragma GCC unroll 32
    for (int unit = 0; unit < (kChannelColumns - 1) * kStride + kWidth;
         ++unit, row = Step(row, unit_step)) {
      if (kClip && (unit < unit_begin || unit >= unit_end)) continue;
      V x = S::Load(row);
      Pin(x);
#pragma GCC unroll 8
      for (int j = 0; j < kChannelColumns; ++j) {
        const int dj = unit - j * kStride;
        if (dj < 0 || dj >= kWidth) continue;
#pragma GCC unroll 2
        for (int i = kFirst; i <= kLast; ++i) sums[i][j] += x * tap[i][dj];
      }
    }
  }

  template <int kFirst, int kLast>
  DEPTHWISE_INLINE void AddRow(V (&sums)[kChannelRows][kChannelColumns], const E* row,
                               const A* taps) const {
    const int64_t tap_row_step = arrays.row_stride * width * kCount;
    row += tap_begin * unit_step;
    taps += tap_begin * kCount;
    for (int64_t dj = tap_begin; dj < tap_end; ++dj, row += unit_step, taps += kCount) {
      V tap[kChannelRows];
#pragma GCC unroll 2
      for (int i = kFirst; i <= kLast; ++i) {
        tap[i] = LoadUnaligned<V>(taps + (kLast - i) * tap_row_step);
      }
      const E* from = row;
      int64_t unit = dj;
#pragma GCC unroll 8
      for (int j = 0; j < kChannelColumns;
           ++j, from = Step(from, unit_stride * unit_step), unit += unit_stride) {
        if (kClip && (unit < unit_begin || unit >= unit_end)) continue;
        V x = S::Load(from);
        Pin(x);
#pragma GCC unroll 2
        for (int i = kFirst; i <= kLast; ++i) sums[i][j] += x * tap[i];
      }
    }
  }
};

// Fetches elements to the second-level cache.
template <class E>
DEPTHWISE_INLINE void PrefetchRow(const E* row, int64_t size) {
  for (int64_t k = 0; k < size; k += 64 / int64_t{sizeof(E)}) __builtin_prefetch(row + k, 0, 2);
}

// Fetches `size` elements of each input row that the next two output rows add, to the second-level
// cache. The hardware alone follows the many short runs of a channel tile badly: 2.4 against 1.4 ms
// for 8x56x56x128 3x3 from memory. In cache it costs 5%, and to the first-level cache 16%.
template <class S>
DEPTHWISE_INLINE void PrefetchNextRows(const ChannelArrays<S>& arrays,
                                       const TileRows<typename S::Element>& rows, int64_t size) {
  const auto* row = rows.row + (rows.row_end - rows.row_begin) * rows.row_step;
  for (int64_t i = 0; i < kChannelRows * arrays.row_stride; ++i, row += rows.row_step) {
    PrefetchRow(row, size);
  }
}

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

// The end of the positions of `axis` that are in columns before `last`.
DEPTHWISE_INLINE int64_t ColumnsEnd(const Axis& axis, int64_t last) {
  return Min(axis.out_count, CeilDiv(last - axis.out_first, axis.out_step));
}

// Computes columns [first, last) of up to two output rows, all channels innermost: the outputs of
// the column residues [residue, residue_end), which have the same number of taps. `rows` begin at
// input column arrays.first_column, `out` at column `first`, which is a multiple of the number of
// residues.
template <class S, int kWidth, int kStride>
inline void ChannelColumns(const Geometry& g, const ChannelArrays<S>& arrays,
                           const TileRows<typename S::Element>& rows, int64_t rows_used,
                           int64_t residue, int64_t residue_end, int64_t first, int64_t last,
                           typename S::Element* out) {
  constexpr int kVectorLanes = kLanes<typename S::Accumulator>;
  for (; residue < residue_end; ++residue) {
    const Axis axis = ColumnAxis(g, residue);
    const int64_t end = ColumnsEnd(axis, last);
    const int64_t unit_step = axis.in_step * arrays.in_column_step;
    const int64_t out_column_step = axis.out_step * arrays.out_column_step;
    const auto* first_taps = arrays.taps + axis.taps.before * arrays.window_rows * kVectorLanes;
    int64_t t = first / axis.out_step;
    TileRows<typename S::Element> tile_rows = rows;
    tile_rows.row +=
        (axis.InputCoordinate(t * axis.stride) - arrays.first_column) * arrays.in_column_step;
    typename S::Element* to = out + residue * arrays.out_column_step;
    while (t < end) {
      const ColumnTile columns = ColumnTileAt(axis, t, Min(kChannelColumns, end - t));
      const int64_t unit_begin = arrays.has_padding ? 0 : columns.image_begin;
      const int64_t unit_end = arrays.has_padding ? columns.units : columns.image_end;
      const auto run = [&](auto clip) {
        const ChannelTile<S, kWidth, kStride, decltype(clip)::value != 0> tile{
            .arrays = arrays,
            .rows = tile_rows,
            .width = kWidth != 0 ? kWidth : axis.window,
            .unit_step = unit_step,
            .unit_stride = axis.stride,
            .unit_begin = unit_begin,
            .unit_end = unit_end,
            .tap_begin = Max(0, columns.image_begin - (columns.count - 1) * axis.stride),
            .tap_end = Min(axis.window, columns.image_end),
            .out_column_step = out_column_step,
            .rows_used = rows_used,
            .columns_used = columns.count,
        };
        const typename S::Accumulator* taps = first_taps;
        const typename S::Accumulator* bias = arrays.bias;
        for (int64_t v = arrays.first_vector; v < arrays.last_vector; ++v) {
          tile.Run(Min(v * kVectorLanes, arrays.channels - kVectorLanes), taps, bias, to);
          taps += arrays.taps_step;
          bias += kVectorLanes;
        }
      };
      if (arrays.prefetch) {
        PrefetchNextRows(arrays, tile_rows, columns.count * axis.stride * unit_step);
      }
      if (unit_begin == 0 && unit_end == columns.units && columns.count == kChannelColumns) {
        run(Size<0>{});
      } else {
        run(Size<1>{});
      }
      t += columns.count;
      tile_rows.row += columns.count * axis.stride * unit_step;
      to += columns.count * out_column_step;
    }
  }
}

// Whether ChannelColumns is unrolled for this number of taps and stride.
inline bool HasUnrolledTile(int64_t taps, int64_t stride) {
  return stride == 1 ? taps == 1 || taps == 2 || taps == 3 || taps == 5 || taps == 7
                     : stride == 2 && (taps == 3 || taps == 5);
}

template <class S>
using ChannelColumnsFunction = decltype(&ChannelColumns<S, 0, 0>);

template <class S>
inline ChannelColumnsFunction<S> FindChannelColumns(int64_t taps, int64_t stride) {
  if (!HasUnrolledTile(taps, stride)) return ChannelColumns<S, 0, 0>;
  switch (taps) {
    case 1: return ChannelColumns<S, 1, 1>;
    case 2: return ChannelColumns<S, 2, 1>;
    case 3: return stride == 2 ? ChannelColumns<S, 3, 2> : ChannelColumns<S, 3, 1>;
    case 5: return stride == 2 ? ChannelColumns<S, 5, 2> : ChannelColumns<S, 5, 1>;
    default: return ChannelColumns<S, 7, 1>;
  }
}

// The same for all residues.
template <class S>
inline void ChannelRows(const Geometry& g, const ChannelArrays<S>& arrays,
                        const TileRows<typename S::Element>& rows, int64_t rows_used, int64_t first,
                        int64_t last, typename S::Element* out) {
  if (!g.transposed) {
    FindChannelColumns<S>(g.filter_width, arrays.column_stride)(
        g, arrays, rows, rows_used, 0, arrays.column_residues, first, last, out);
    return;
  }
  for (int64_t residue = 0; residue < arrays.column_residues; ++residue) {
    FindChannelColumns<S>(ColumnAxis(g, residue).window, arrays.column_stride)(
        g, arrays, rows, rows_used, residue, residue + 1, first, last, out);
  }
}

}  // namespace depthwise::DEPTHWISE_ISA
